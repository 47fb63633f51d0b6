/*
 * How many answers strangers get: a budget per source (source.h) for everything that is answered
 * without credentials, so that a spoofed flood makes no reflector of us (threat X22). A table of
 * fixed size under a secret hash; nobody is remembered.
 *
 * Each prefix has two places and pays at both; it is refused when both are empty. So a stranger who
 * shares one place with a flood has the other still. Only a flood of some RATELIMIT_BUCKETS / 2
 * sources, each at the full rate, leaves nothing for others.
 */
#ifndef MEERKAT_RATELIMIT_H
#define MEERKAT_RATELIMIT_H

#include "addr.h"
#include "bucket.h"

enum { RATELIMIT_BUCKETS = 1 << 14 };

struct ratelimit {
    _Atomic uint64_t unit, burst; /* of struct rate; may change while others take */
    uint8_t key[16];
    struct bucket buckets[RATELIMIT_BUCKETS];
};

/* per_second 0: no limit. */
void ratelimit_init(struct ratelimit *r, uint32_t per_second, uint32_t burst);

/* Another rate. Any thread. */
void ratelimit_set(struct ratelimit *r, uint32_t per_second, uint32_t burst);

/* May this source be given one more answer? Any thread. */
bool ratelimit_take(struct ratelimit *r, const struct addr *source, uint64_t now);

/* Would ratelimit_take say yes? Takes nothing. Any thread. */
bool ratelimit_has(struct ratelimit *r, const struct addr *source, uint64_t now);

#endif
