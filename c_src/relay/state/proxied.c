#include "proxied.h"

bool proxieds_init(struct proxieds *t, struct ways *ways, uint32_t max)
{
    *t = (struct proxieds){.ways = ways};
    list_init(&t->by_age);
    return slab_init(&t->slab, sizeof(struct proxied), max) && table_init(&t->by_tuple, max);
}

void proxieds_destroy(struct proxieds *t)
{
    slab_destroy(&t->slab);
    table_destroy(&t->by_tuple);
}

static struct proxied *look_up(const struct proxieds *t, const struct listener *l,
                               const struct addr *client, const struct addr *server, uint32_t hash)
{
    struct table_node *n;
    table_for_each(n, &t->by_tuple, hash)
    {
        struct proxied *p = container_of(n, struct proxied, by_tuple);
        if (p->end.listener == l && addr_equal(&p->client, client) &&
            addr_equal(&p->server, server))
            return p;
    }
    return NULL;
}

struct proxied *proxied_find(const struct proxieds *t, const struct listener *l,
                             const struct addr *client, const struct addr *server)
{
    if (!t->slab.live)
        return NULL;
    return look_up(t, l, client, server, tuple_hash(&t->by_tuple, client, server));
}

static void forget(struct proxieds *t, struct proxied *p)
{
    way_close(t->ways, &p->end);
    way_release(t->ways, p->end.listener->end.way);
    table_remove(&t->by_tuple, &p->by_tuple);
    list_del(&p->by_age);
    slab_free(&t->slab, p);
}

/* False when all are held. One that is held goes behind the others, so that the next search does
 * not begin with it. */
static bool make_room(struct proxieds *t)
{
    for (uint32_t i = 0; i < t->slab.live; i++) {
        struct proxied *p = container_of(t->by_age.next, struct proxied, by_age);
        if (!p->end.holds) {
            forget(t, p);
            return true;
        }
        list_del(&p->by_age);
        list_add_tail(&t->by_age, &p->by_age);
    }
    return false;
}

static struct proxied *make(struct proxieds *t, struct listener *l, const struct addr *client,
                            const struct addr *server, uint32_t hash)
{
    struct proxied *p = t->slab.live < t->slab.max || make_room(t) ? slab_alloc(&t->slab) : NULL;
    if (!p)
        return NULL;
    p->end.listener = l;
    p->client = *client;
    p->server = *server;
    list_init(&p->by_age);
    way_open(t->ways, &p->end); /* there is one for each */
    way_hold(t->ways, l->end.way);
    table_insert(&t->by_tuple, &p->by_tuple, hash);
    return p;
}

struct proxied *proxied_note(struct proxieds *t, struct listener *l, const struct addr *client,
                             const struct addr *server)
{
    uint32_t hash = tuple_hash(&t->by_tuple, client, server);
    struct proxied *p = look_up(t, l, client, server, hash);
    if (!p)
        p = make(t, l, client, server, hash);
    if (p) {
        list_del(&p->by_age);
        list_add_tail(&t->by_age, &p->by_age);
    }
    return p;
}

void proxieds_sweep(struct proxieds *t, const struct listener *l)
{
    struct list *at, *next;
    list_for_each_safe (at, next, &t->by_age) {
        struct proxied *p = container_of(at, struct proxied, by_age);
        if (p->end.listener == l && !p->end.holds)
            forget(t, p);
    }
}
