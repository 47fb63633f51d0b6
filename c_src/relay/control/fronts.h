/*
 * FRONT, handed to every worker: proxies whose PROXY header is believed, and web servers that get
 * the connections that are not TURN.
 */
#ifndef MEERKAT_FRONTS_H
#define MEERKAT_FRONTS_H

#include "control_state.h"

void fronts_set(struct control *c, const struct ctl_frame *f);

#endif
