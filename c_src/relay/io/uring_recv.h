/*
 * Receiving on io_uring: sockets and their multishot receives, from the first arming to the last
 * completion, which closes the descriptor. Knows of sending only that it has to be over before a
 * descriptor is closed.
 */
#ifndef MEERKAT_URING_RECV_H
#define MEERKAT_URING_RECV_H

#include "ring.h"

int uring_add(struct io *io, struct io_socket *s);
void uring_remove(struct io *io, struct io_socket *s);
/* Starts receives again that ended, REARM_MAX at most. */
void uring_rearm(struct uring *u);
/* See io_hold. */
void uring_hold(struct io *io);
void uring_go_on(struct io *io);
bool uring_is_still(struct io *io);
/* Completions of a receive and of its cancellation. */
void uring_on_recv(struct uring *u, const struct io_uring_cqe *cqe);
void uring_on_cancel(struct uring *u, const struct io_uring_cqe *cqe);

#endif
