/*
 * An io on epoll, for where io_uring is refused: the same with older means.
 */
#ifndef MEERKAT_EPOLL_H
#define MEERKAT_EPOLL_H

#include "io.h"

/* To be called by the thread that will use it. 0 or -errno. */
int epoll_create_io(struct io **out, const struct io_events *events, uint32_t sockets_max);

#endif
