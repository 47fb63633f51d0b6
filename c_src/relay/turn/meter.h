/*
 * The bandwidth of a session: its own, its user's and the server's.
 */
#ifndef MEERKAT_METER_H
#define MEERKAT_METER_H

#include "shard.h"

/* Is there a limit at all? */
static inline bool meter_limits(const struct shard *sh, const struct session *s)
{
    return s->rate.unit || s->user || shared_bucket_limits(&sh->config.limits->total);
}

/* Takes from the allocation, its user and the server, in this order; what a later one refuses an
 * earlier one has paid for, so that nobody gains by trying. */
static inline bool meter_take(struct shard *sh, struct session *s, enum direction d, uint32_t units)
{
    uint64_t now = sh->time.now;
    return bucket_take(&s->own[d], s->rate, now, units) &&
           (!s->user || shared_bucket_take(s->user, d, now, units)) &&
           shared_bucket_take(&sh->config.limits->total, d, now, units);
}

#endif
