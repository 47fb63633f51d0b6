/*
 * The life of a client's DTLS association: opened when its handshake is done, read, and ended: by
 * the client, for want of words, or because the client has started over. With it ends its
 * allocation.
 */
#ifndef MEERKAT_ASSOC_H
#define MEERKAT_ASSOC_H

#include "shard.h"

/* With its way, and its place among those without allocation; the caller has entered it there. It
 * holds the way of f, that of UDP. NULL when there are too many. */
struct association *assoc_make(struct shard *sh, struct listener *l, const struct flow *f);

/* The handshake is done; one of the same client that stood until now ends. */
void assoc_open(struct shard *sh, struct association *a, struct tls_session *tls);

/*
 * What a datagram says. It lies in `data`, and so does each message while it is handled; both are
 * the caller's memory of cap bytes, which may be sent from. False when the association has ended.
 */
bool assoc_read(struct shard *sh, struct association *a, uint8_t *data, size_t len, size_t cap);

/* An allocation answers by it, or does no longer. */
void assoc_kept(struct shard *sh, struct association *a, bool kept);

/* Forgets it, without a word to the client. No handshake thread has it. */
void assoc_close(struct shard *sh, struct association *a);

static inline struct crowd *assoc_crowd(struct shard *sh)
{
    return &sh->config.limits->streams.crowd;
}

#endif
