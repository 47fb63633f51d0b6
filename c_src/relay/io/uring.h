/*
 * An io on io_uring: one ring for each worker thread, its life, waiting and dispatching. What it
 * stands on is in ring.h; whoever creates one sees nothing of that.
 */
#ifndef MEERKAT_URING_H
#define MEERKAT_URING_H

#include "io.h"

/* To be called by the thread that will use it. 0 or -errno. */
int uring_create(struct io **out, const struct io_events *events, uint32_t sockets_max);

#endif
