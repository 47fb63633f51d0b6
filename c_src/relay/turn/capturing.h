/*
 * Capturing what an allocation relays, and its requests and answers, into a file (capture.h). Which
 * is captured, for how long and into which file, Erlang decides; one that is captured is looked at
 * as well (looking.h), so packets of all others do not come here.
 */
#ifndef MEERKAT_CAPTURING_H
#define MEERKAT_CAPTURING_H

#include "shard.h"

/* NULL unless it is captured. One that nobody has asked for again ends with whatever finds that out
 * first. */
struct capture *capturing_of(struct shard *sh, struct session *s);

/* Of a session that is looked at, a packet to a peer: as it came, by a channel or (NULL) in a Send
 * indication, which capturing_send has seen; and as it goes on. */
void capturing_from_client(struct shard *sh, struct session *s, const struct channel *c,
                           const uint8_t *payload, size_t len);
void capturing_send(struct shard *sh, struct session *s, const struct stun_view *v);
void capturing_to_peer(struct shard *sh, struct session *s, const struct relayed *r,
                       const struct addr *peer, const uint8_t *payload, size_t len);

/* The other way: as it came, and as it is handed over, which is done here where it is captured;
 * false otherwise. c: NULL for a Data indication. */
void capturing_from_peer(struct shard *sh, struct session *s, const struct relayed *r,
                         const struct io_packet *p);
bool capturing_hand_over(struct shard *sh, struct session *s, const struct channel *c,
                         const struct io_packet *p);

/* A request or an answer of whoever may have a session that is captured. */
void capturing_message_of(struct shard *sh, const struct flow *f, bool inbound, const uint8_t *data,
                          size_t len);

static inline void capturing_message(struct shard *sh, const struct flow *f, bool inbound,
                                     const uint8_t *data, size_t len)
{
    if (UNLIKELY(sh->sessions.captures))
        capturing_message_of(sh, f, inbound, data, len);
}

#endif
