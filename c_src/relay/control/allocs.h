/*
 * What allocations of all workers share: the addresses and ports they relay from, and which worker
 * gets which allocation. Ports are chosen and sockets bound here; the worker does the rest, and
 * replies.
 */
#ifndef MEERKAT_ALLOCS_H
#define MEERKAT_ALLOCS_H

#include "control_state.h"

/* RELAY_ADDRESS, POOL_CLOSE */
void allocs_address(struct control *c, const struct ctl_frame *f);
void allocs_pool_close(struct control *c, const struct ctl_frame *f);
/* ALLOC_CREATE, ALLOC_MOVE */
void allocs_create(struct control *c, const struct ctl_frame *f);
void allocs_move(struct control *c, const struct ctl_frame *f);

#endif
