#include "roam.h"

#include <string.h>

bool roamers_init(struct roamers *t, const struct ways *ways, uint32_t max)
{
    memset(t, 0, sizeof(*t));
    t->ways = ways;
    return slab_init(&t->slab, sizeof(struct roamer), max) && table_init(&t->by_tuple, max);
}

void roamers_destroy(struct roamers *t)
{
    slab_destroy(&t->slab);
    table_destroy(&t->by_tuple);
}

struct roamer *roamer_find(const struct roamers *t, const struct flow *f)
{
    uint32_t h = flow_hash(&t->by_tuple, f);
    struct table_node *n;
    table_for_each(n, &t->by_tuple, h)
    {
        struct roamer *r = container_of(n, struct roamer, by_tuple);
        if (flow_equal(&r->flow, f))
            return r;
    }
    return NULL;
}

struct roamer *roamer_set(struct roamers *t, const struct flow *f, uint64_t session, unsigned home)
{
    struct roamer *r = roamer_find(t, f);
    if (!r) {
        r = slab_alloc(&t->slab);
        if (!r)
            return NULL;
        flow_keep(t->ways, &r->flow, f);
        table_insert(&t->by_tuple, &r->by_tuple, flow_hash(&t->by_tuple, f));
    }
    r->session = session;
    r->home = home;
    return r;
}

void roamer_remove(struct roamers *t, struct roamer *r)
{
    table_remove(&t->by_tuple, &r->by_tuple);
    flow_drop(t->ways, &r->flow);
    slab_free(&t->slab, r);
}
