/*
 * Commands of Erlang, by code: which file carries each out here, or which worker gets it.
 */
#ifndef MEERKAT_ORDER_H
#define MEERKAT_ORDER_H

#include "control_state.h"

/* One frame from Erlang: done here, or mailed to the worker it is for. A frame that is not in
 * ctl.def ends the program. */
void order_frame(struct control *c, const uint8_t *frame, size_t len);

#endif
