/*
 * UDP clients that a proxy speaks for: the way back leads through it. By the 5-tuple that the proxy
 * tells; where the proxy is, is learnt from every datagram anew, for it may give a client another
 * port when it has forgotten him. Belongs to one worker. Nothing here has a deadline: what nobody
 * holds makes room for others, the oldest first.
 */
#ifndef MEERKAT_PROXIED_H
#define MEERKAT_PROXIED_H

#include "list.h"
#include "slab.h"
#include "transport.h"

struct proxied {
    struct way_end end; /* it holds that of its listener */
    struct table_node by_tuple;
    struct list by_age; /* the one that spoke last is the last */
    struct addr client, server;
    struct addr via;   /* the proxy, as it reaches us */
    struct addr local; /* where it does */
};

struct proxieds {
    struct slab slab;
    struct table by_tuple;
    struct list by_age;
    struct ways *ways;
};

/* False without address space. */
bool proxieds_init(struct proxieds *t, struct ways *ways, uint32_t max);
void proxieds_destroy(struct proxieds *t);

struct proxied *proxied_find(const struct proxieds *t, const struct listener *l,
                             const struct addr *client, const struct addr *server);
/* The same, made where it is not there; NULL when all there may be are held. It has spoken now. */
struct proxied *proxied_note(struct proxieds *t, struct listener *l, const struct addr *client,
                             const struct addr *server);
/* Forgets those of a listener that nobody holds. */
void proxieds_sweep(struct proxieds *t, const struct listener *l);

/* The one whose end this is; NULL for a listener's own. */
static inline struct proxied *proxied_of(struct way_end *e)
{
    return e == &e->listener->end ? NULL : container_of(e, struct proxied, end);
}

#endif
