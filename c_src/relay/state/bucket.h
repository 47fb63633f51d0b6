/*
 * Rates: so much per second, with a burst. A bucket is one number, the time at which it would be
 * full again (the generic cell rate algorithm), changed by one compare-and-swap: workers may share
 * it without a lock. Knows neither packets nor addresses.
 */
#ifndef MEERKAT_BUCKET_H
#define MEERKAT_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>

#include "clock.h"

/* What a bucket lets through. Zero: everything. */
struct rate {
    uint64_t unit;  /* nanoseconds a unit takes, times 2^16 */
    uint64_t burst; /* nanoseconds' worth that may come at once */
};

struct bucket {
    _Atomic uint64_t full; /* nanoseconds */
};

/* Units per second, of which `burst` may come at once. per_second 0: no limit. */
static inline struct rate rate_of(uint64_t per_second, uint64_t burst)
{
    if (per_second == 0)
        return (struct rate){0, 0};
    struct rate r = {.unit = (NS_PER_S << 16) / per_second};
    if (r.unit == 0)
        r.unit = 1;
    unsigned __int128 ns = (unsigned __int128)burst * r.unit >> 16;
    r.burst = ns > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)ns;
    return r;
}

/* Takes `units`, or nothing: false when they are over the rate. */
static inline bool bucket_take(struct bucket *b, struct rate r, uint64_t now, uint32_t units)
{
    if (r.unit == 0)
        return true;
    uint64_t cost = units * r.unit >> 16;
    uint64_t full = atomic_load_explicit(&b->full, memory_order_relaxed);
    uint64_t next;
    do {
        next = (full > now ? full : now) + cost;
        if (next - now > r.burst)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->full, &full, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

/* Would bucket_take take as much? */
static inline bool bucket_has(struct bucket *b, struct rate r, uint64_t now, uint32_t units)
{
    uint64_t full = atomic_load_explicit(&b->full, memory_order_relaxed);
    return r.unit == 0 || (full > now ? full - now : 0) + (units * r.unit >> 16) <= r.burst;
}

/* Bytes per second with a burst of a quarter second, or of two of the largest datagrams. */
static inline struct rate bandwidth(uint64_t bytes_per_s)
{
    uint64_t burst = bytes_per_s / 4;
    return rate_of(bytes_per_s, burst > 2 * 65536 ? burst : 2 * 65536);
}

/* Packets per second with a burst of a quarter second, or of a video frame's packets. */
static inline struct rate packet_rate(uint32_t packets_per_s)
{
    enum { FRAME = 64 };
    uint32_t burst = packets_per_s / 4;
    return rate_of(packets_per_s, burst > FRAME ? burst : FRAME);
}

/* A rate that may be changed while others take from it, in two directions. */
struct shared_bucket {
    _Atomic uint64_t unit, burst;
    struct bucket direction[2];
};

static inline void shared_bucket_set(struct shared_bucket *b, struct rate r)
{
    atomic_store_explicit(&b->burst, r.burst, memory_order_relaxed);
    atomic_store_explicit(&b->unit, r.unit, memory_order_relaxed);
}

/* Is there a limit at all? */
static inline bool shared_bucket_limits(const struct shared_bucket *b)
{
    return atomic_load_explicit(&b->unit, memory_order_relaxed) != 0;
}

static inline bool shared_bucket_take(struct shared_bucket *b, unsigned direction, uint64_t now,
                                      uint32_t units)
{
    struct rate r = {.unit = atomic_load_explicit(&b->unit, memory_order_relaxed),
                     .burst = atomic_load_explicit(&b->burst, memory_order_relaxed)};
    return bucket_take(&b->direction[direction], r, now, units);
}

#endif
