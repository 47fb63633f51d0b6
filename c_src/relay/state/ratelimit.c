#include "ratelimit.h"

#include <string.h>

#include "crypto.h"
#include "source.h"

void ratelimit_init(struct ratelimit *r, uint32_t per_second, uint32_t burst)
{
    memset(r, 0, sizeof(*r));
    ratelimit_set(r, per_second, burst);
    crypto_random(r->key, sizeof(r->key));
}

void ratelimit_set(struct ratelimit *r, uint32_t per_second, uint32_t burst)
{
    struct rate rate = rate_of(per_second, burst);
    atomic_store_explicit(&r->burst, rate.burst, memory_order_relaxed);
    atomic_store_explicit(&r->unit, rate.unit, memory_order_relaxed);
}

/* The two places of a source. */
static void places(struct ratelimit *r, const struct addr *source, struct bucket *out[2])
{
    uint64_t hash = source_hash(r->key, source);
    size_t first = hash % RATELIMIT_BUCKETS;
    size_t second = (first + 1 + (hash >> 32) % (RATELIMIT_BUCKETS - 1)) % RATELIMIT_BUCKETS;
    out[0] = &r->buckets[first];
    out[1] = &r->buckets[second];
}

static struct rate rate_now(struct ratelimit *r)
{
    return (struct rate){.unit = atomic_load_explicit(&r->unit, memory_order_relaxed),
                         .burst = atomic_load_explicit(&r->burst, memory_order_relaxed)};
}

bool ratelimit_take(struct ratelimit *r, const struct addr *source, uint64_t now)
{
    struct rate rate = rate_now(r);
    struct bucket *at[2];
    if (rate.unit == 0)
        return true;
    places(r, source, at);
    bool one = bucket_take(at[0], rate, now, 1), other = bucket_take(at[1], rate, now, 1);
    return one || other;
}

bool ratelimit_has(struct ratelimit *r, const struct addr *source, uint64_t now)
{
    struct rate rate = rate_now(r);
    struct bucket *at[2];
    if (rate.unit == 0)
        return true;
    places(r, source, at);
    return bucket_has(at[0], rate, now, 1) || bucket_has(at[1], rate, now, 1);
}
