/*
 * FRONT, spread to the workers: proxies whose word counts, and web servers that get what is not for
 * us.
 */
#ifndef MEERKAT_FRONTS_H
#define MEERKAT_FRONTS_H

#include "control_state.h"

void fronts_set(struct control *c, const struct ctl_frame *f);

#endif
