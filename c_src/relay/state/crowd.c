#include "crowd.h"

#include <string.h>

#include "crypto.h"

void crowd_init(struct crowd *c, uint32_t each_max, uint32_t all_max)
{
    memset(c, 0, sizeof(*c));
    atomic_init(&c->each_max, each_max);
    atomic_init(&c->all_max, all_max);
    crypto_random(c->key, sizeof(c->key));
}

void crowd_set(struct crowd *c, uint32_t each_max)
{
    atomic_store_explicit(&c->each_max, each_max, memory_order_relaxed);
}

static _Atomic uint32_t *place_of(struct crowd *c, const struct addr *source)
{
    size_t prefix = source->family == ADDR_V6 ? 8 : 16; /* IPv4 ends in its four bytes */
    return &c->places[crypto_siphash(c->key, source->ip, prefix) % CROWD_PLACES];
}

/* One more, but no more than max of them. */
static bool add(_Atomic uint32_t *count, uint32_t max)
{
    if (atomic_fetch_add_explicit(count, 1, memory_order_relaxed) < max)
        return true;
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    return false;
}

bool crowd_enter(struct crowd *c, const struct addr *source)
{
    if (!add(&c->all, atomic_load_explicit(&c->all_max, memory_order_relaxed)))
        return false;
    if (add(place_of(c, source), atomic_load_explicit(&c->each_max, memory_order_relaxed)))
        return true;
    atomic_fetch_sub_explicit(&c->all, 1, memory_order_relaxed);
    return false;
}

void crowd_return(struct crowd *c, const struct addr *source)
{
    atomic_fetch_add_explicit(&c->all, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(place_of(c, source), 1, memory_order_relaxed);
}

void crowd_leave(struct crowd *c, const struct addr *source)
{
    atomic_fetch_sub_explicit(&c->all, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(place_of(c, source), 1, memory_order_relaxed);
}
