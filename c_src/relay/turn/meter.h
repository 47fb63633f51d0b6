/*
 * The bandwidth of a session: its own, its user's and the server's. And its own packets.
 */
#ifndef MEERKAT_METER_H
#define MEERKAT_METER_H

#include "shard.h"

/* What a datagram of so many bytes costs: with its headers of IP and UDP, between here and the
 * peer, so that one without payload is not free. */
static inline uint32_t meter_units(const struct addr *peer, size_t len)
{
    enum { HEADERS_V4 = 20 + 8, HEADERS_V6 = 40 + 8 };
    return (uint32_t)len + (peer->family == ADDR_V4 ? HEADERS_V4 : HEADERS_V6);
}

/* Is there a limit at all? */
static inline bool meter_limits_any(const struct shard *sh, struct rate rate,
                                    const struct shared_bucket *user)
{
    return rate.unit || user || shared_bucket_limits(&sh->config.limits->total);
}

/* Of a session, or something else that its packets have to pass. */
static inline bool meter_limits(const struct shard *sh, const struct session *s)
{
    return s->detour || shared_bucket_limits(&sh->config.limits->total);
}

/* Takes from the allocation, its user and the server, in this order; what a later one refuses an
 * earlier one has paid for, so that nobody gains by trying. */
static inline bool meter_take_of(struct shard *sh, struct bucket *own, struct rate rate,
                                 struct shared_bucket *user, enum direction d, uint32_t units)
{
    uint64_t now = sh->time.now;
    return bucket_take(own, rate, now, units) &&
           (!user || shared_bucket_take(user, d, now, units)) &&
           shared_bucket_take(&sh->config.limits->total, d, now, units);
}

static inline bool meter_take(struct shard *sh, struct session *s, enum direction d, uint32_t units)
{
    return meter_take_of(sh, session_bucket(s, d), s->rate, s->user, d, units);
}

/* In place of the reason that a packet is dropped for: no such reason has this number. */
#define METER_PASSES ((enum counter)0)

/* The packet, then its bytes: those that are too many take no bandwidth from others. */
static inline enum counter meter_packet(struct shard *sh, struct session *s, enum direction d,
                                        uint32_t units)
{
    if (!bucket_take(session_paced(s, d), s->pace, sh->time.now, 1))
        return CTR_over_packet_rate;
    return meter_take(sh, s, d, units) ? METER_PASSES : CTR_over_bandwidth;
}

#endif
