/*
 * RFC 6062 5.4: a connection of a client and one with a peer that are joined. What the one says
 * goes to the other as it is. Nothing is read from a side while the other does not take what was
 * read before; a side that has said all has that told to the other, when all of it is there.
 */
#ifndef MEERKAT_JOINED_H
#define MEERKAT_JOINED_H

#include "shard.h"

/* From here on they are joined. The client's may have read something already. */
void joined_begin(struct shard *sh, struct peer_stream *p, struct stream *s);

/* The client's may be read or written again. */
void joined_client_ready(struct shard *sh, struct stream *s, bool ended);
/* The client's is gone: so is its peer's, at once. */
void joined_lost(struct shard *sh, struct stream *s);

/* Apart again: what was read is still sent, then both go. What the client has said by now is read
 * before, where `all`. p is of no session any more. */
void joined_wind_up(struct shard *sh, struct peer_stream *p, bool all);

/* Ends a connection with a peer at once, and the client's that is joined to it. Erlang is told
 * where it has heard of it. */
void joined_drop(struct shard *sh, struct peer_stream *p, enum peer_end why);

#endif
