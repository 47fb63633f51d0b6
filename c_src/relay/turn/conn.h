/*
 * The life of a client's connection: accepted, perhaps through a TLS handshake elsewhere, read and
 * written, and ended: by the client, for want of words, or because what it says is nothing. With it
 * ends its allocation.
 */
#ifndef MEERKAT_CONN_H
#define MEERKAT_CONN_H

#include "mail.h"
#include "shard.h"

/* A connection of that listener; the descriptor is taken, or closed where there are too many. */
void conn_open(struct shard *sh, struct listener *l, int fd, const struct addr *client,
               const struct addr *server);

/* One whose client a proxy has told, here or in another worker. */
void conn_told(struct shard *sh, const struct mail_conn *m);

/* Those whose handshake is over. Once a turn. */
void conn_arrivals(struct shard *sh);

/* Sends what waits on all of them. At the end of a turn. */
void conn_flush_all(struct shard *sh);

/* An allocation answers through it, or does no longer. */
void conn_kept(struct shard *sh, struct stream *s, bool kept);

#endif
