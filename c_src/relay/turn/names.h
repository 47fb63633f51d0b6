/*
 * The two names of a relayed address of ours behind a 1:1 NAT: where it is bound, and what clients
 * are told.
 */
#ifndef MEERKAT_NAMES_H
#define MEERKAT_NAMES_H

#include "shard.h"

/* Another client's relayed address, in this pool, where it is bound. */
static inline struct addr name_as_bound(const struct pool *pool, const struct addr *peer)
{
    struct addr bound = pool->local;
    bound.port = peer->port;
    return bound;
}

/* Where a relayed packet of another session of ours comes from, as its own client knows it. */
static inline void name_as_advertised(const struct shard *sh, struct addr *from)
{
    if (LIKELY(!sh->policy->renames))
        return;
    const struct pool *pool = policy_pool_at(sh->policy, from);
    if (pool) {
        uint16_t port = from->port;
        *from = pool->advertised;
        from->port = port;
    }
}

#endif
