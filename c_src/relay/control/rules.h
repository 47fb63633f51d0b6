/*
 * The peer policy: Erlang's rules, and what protects this host itself (its addresses, listeners and
 * guarded ports). After a change of either every worker gets a new policy.
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
