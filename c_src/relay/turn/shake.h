/*
 * DTLS handshakes as their worker sees them: each step is taken by a handshake thread, and whatever
 * comes, goes and is waited for in between is here. An end of one is counted by its reason.
 */
#ifndef MEERKAT_SHAKE_H
#define MEERKAT_SHAKE_H

#include "shard.h"

/* For a client whose hello, with which this datagram begins, has a good cookie; or not, where there
 * are too many. */
void shake_begin(struct shard *sh, struct listener *l, const struct flow *f,
                 const struct dtls_hello *h, const uint8_t *data, size_t len);
/* Another datagram of one that is under way; sealed: it begins encrypted. */
void shake_feed(struct shard *sh, struct association *a, const uint8_t *data, size_t len,
                bool sealed);
/* Its client has begun another. False when that must wait: a thread has it. */
bool shake_give_up(struct shard *sh, struct association *a);
/* Those whose step has been taken. Once a turn. */
void shake_arrivals(struct shard *sh);

#endif
