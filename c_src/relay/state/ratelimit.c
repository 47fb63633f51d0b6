#include "ratelimit.h"

#include <string.h>

#include "crypto.h"

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

bool ratelimit_take(struct ratelimit *r, const struct addr *source, uint64_t now)
{
    struct rate rate = {.unit = atomic_load_explicit(&r->unit, memory_order_relaxed),
                        .burst = atomic_load_explicit(&r->burst, memory_order_relaxed)};
    if (rate.unit == 0)
        return true;
    size_t prefix = source->family == ADDR_V6 ? 8 : 16; /* IPv4 ends in its four bytes */
    uint64_t hash = crypto_siphash(r->key, source->ip, prefix);
    size_t first = hash % RATELIMIT_BUCKETS;
    size_t second = (first + 1 + (hash >> 32) % (RATELIMIT_BUCKETS - 1)) % RATELIMIT_BUCKETS;
    bool one = bucket_take(&r->buckets[first], rate, now, 1);
    bool other = bucket_take(&r->buckets[second], rate, now, 1);
    return one || other;
}
