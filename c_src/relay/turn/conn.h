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

/* RFC 6062: from here on it carries what that peer says, and the other way round. */
void conn_join(struct shard *sh, struct stream *s, struct peer_stream *p);
/* It goes to the worker of the session in m, whose other fields are filled in here: the client
 * comes in by this one, and all else of the session is there. The answer that waits for the client
 * goes along. False, and it is closed, where it cannot. */
bool conn_hand_over(struct shard *sh, struct stream *s, struct mail_join *m);
/* One that was handed over, with the bytes that were read of it. NULL, and it is closed, where it
 * cannot be taken. */
struct stream *conn_adopt(struct shard *sh, const struct mail_join *m, const uint8_t *bytes);
/* The answer that came with it, which the other worker has counted. False without memory. */
bool conn_answer(struct shard *sh, struct stream *s, const uint8_t *packet, size_t len);
/* One that another program had, of a client that has an allocation or (crowded) not; it is silent
 * since `heard`. NULL, and the descriptor is the caller's, where there are too many. */
struct stream *conn_resume(struct shard *sh, struct listener *l, int fd, const struct flow *f,
                           bool crowded, uint64_t heard);
/* Ends one, behind what waits for its client. */
void conn_leave(struct shard *sh, struct stream *s);

#endif
