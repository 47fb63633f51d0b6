/*
 * Sending on io_uring: datagrams are collected in runs, which go into the ring before a submission
 * and are over when it returns. Knows nothing of receiving but that buffers are lent again once
 * what was sent from them is gone.
 */
#ifndef MEERKAT_URING_SEND_H
#define MEERKAT_URING_SEND_H

#include "ring.h"

void uring_send(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                size_t len, const struct addr *to, const struct addr *from, unsigned flags);
uint8_t *uring_scratch(struct io *io, size_t len);
/* Puts what was collected into the ring. */
void uring_put_runs(struct uring *u);
/* After a submission that left nothing behind: sends again what failed; then buffers, but for the
 * latest `keep` of them, and all that sends needed are free. */
void uring_settle(struct uring *u, uint32_t keep);
/* Both, with a submission between. */
void uring_flush(struct uring *u, uint32_t keep);
/* Likewise while a packet is being handled: its buffer stays ours. */
void uring_flush_now(struct uring *u);

#endif
