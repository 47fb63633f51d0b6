/*
 * The peer policy: Erlang's rules, together with what this machine must not be talked into. Every
 * change of either is a new policy for every worker.
 */
#ifndef MEERKAT_RULES_H
#define MEERKAT_RULES_H

#include "control_state.h"

/* POLICY */
void rules_set(struct control *c, const struct ctl_frame *f);
/* Gives the workers a policy of what is so now. After a change of listeners, relay addresses or
 * addresses of the host. */
void rules_spread(struct control *c);
void rules_destroy(struct control *c);

#endif
