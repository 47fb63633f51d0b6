/*
 * A client's connection goes from one relay program to the next: what was read of it and is not
 * whole, and what waits to be sent, goes along. One with TLS does not, nor does one that is joined
 * to a peer's (RFC 6062) or about to end.
 */
#ifndef MEERKAT_CONN_LEFT_H
#define MEERKAT_CONN_LEFT_H

#include "handed.h"
#include "left_conns.h"
#include "shard.h"

bool conn_left_goes(const struct stream *s);
/* It stays this worker's as well. */
void conn_left_put(const struct shard *sh, const struct stream *s, struct handed *h);

/* MAIL_LEFT: it is this worker's from here on. One that cannot be taken is closed. */
void conn_left_take(struct shard *sh, struct left_conn *c);

#endif
