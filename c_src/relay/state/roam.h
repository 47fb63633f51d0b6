/*
 * 5-tuples that belong to a session by way of a move (RFC 8016), where they are not the session's
 * own: kept by the worker their datagrams come to, which need not be the session's. Knows neither
 * mail nor messages.
 */
#ifndef MEERKAT_ROAM_H
#define MEERKAT_ROAM_H

#include "slab.h"
#include "table.h"
#include "transport.h"

struct roamer {
    struct table_node by_tuple;
    struct flow flow;
    uint64_t session;
    unsigned home; /* worker of the session */
};

struct roamers {
    struct slab slab;
    struct table by_tuple;
    const struct ways *ways;
};

/* False without address space. */
bool roamers_init(struct roamers *t, const struct ways *ways, uint32_t max);
void roamers_destroy(struct roamers *t);

struct roamer *roamer_find(const struct roamers *t, const struct flow *f);
/* Makes or replaces; NULL when the table is full. */
struct roamer *roamer_set(struct roamers *t, const struct flow *f, uint64_t session, unsigned home);
void roamer_remove(struct roamers *t, struct roamer *r);

#endif
