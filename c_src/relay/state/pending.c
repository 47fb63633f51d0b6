#include "pending.h"

#include <string.h>

#include "clock.h"

/* Nobody waits longer: a client's transaction is over after 39.5 s (RFC 8489 6.2.1), and Erlang
 * that has not answered by then has lost it. */
#define PENDING_NS (10 * NS_PER_S)

enum { GENERATION_MASK = 0xffffff };

bool pendings_init(struct pendings *t, const struct ways *ways, unsigned worker, uint32_t credits)
{
    memset(t, 0, sizeof(*t));
    t->worker = worker;
    crypto_random(t->key, sizeof(t->key));
    t->ways = ways;
    list_init(&t->in_order);
    return slab_init(&t->slab, sizeof(struct pending), credits);
}

void pendings_destroy(struct pendings *t)
{
    slab_destroy(&t->slab);
}

struct pending *pending_first(const struct pendings *t)
{
    return list_empty(&t->in_order) ? NULL
                                    : container_of(t->in_order.next, struct pending, in_order);
}

/* Is there a credit for a stranger of this source, 0 for who is none? */
static bool has_credit(const struct pendings *t, uint32_t stranger)
{
    uint32_t all = t->slab.max;
    if (t->slab.live == all)
        return false;
    return !stranger ||
           (t->strangers < MAX(all / 4 * 3, 1u) && t->by_source[stranger - 1] < MAX(all / 16, 1u));
}

/* Gives back the credit of a request that Erlang has lost, so that others can use it. */
static bool release_lost(struct pendings *t, uint64_t now)
{
    struct pending *p = pending_first(t);
    if (!p || p->since + PENDING_NS >= now)
        return false;
    pending_release(t, p);
    return true;
}

void pending_sweep(struct pendings *t, uint64_t now)
{
    while (release_lost(t, now))
        ;
}

struct pending *pending_take(struct pendings *t, const struct flow *f, bool has_session,
                             uint64_t now)
{
    uint32_t stranger =
        has_session ? 0 : (uint32_t)(source_hash(t->key, &f->client) % PENDING_SOURCES) + 1;
    while (!has_credit(t, stranger))
        if (!release_lost(t, now))
            return NULL;
    struct pending *p = slab_alloc(&t->slab);
    if (!p)
        return NULL;
    p->stranger = stranger;
    if (stranger) {
        t->strangers++;
        t->by_source[stranger - 1]++;
    }
    t->generation = (t->generation & GENERATION_MASK) == GENERATION_MASK ? 1 : t->generation + 1;
    p->generation = t->generation;
    p->since = now;
    flow_keep(t->ways, &p->flow, f);
    list_init(&p->in_order);
    list_add_tail(&t->in_order, &p->in_order);
    return p;
}

uint64_t pending_number(const struct pendings *t, const struct pending *p)
{
    return (uint64_t)t->worker << 56 | (uint64_t)p->generation << 32 | slab_index(&t->slab, p);
}

struct pending *pending_find(const struct pendings *t, uint64_t number)
{
    uint32_t slot = (uint32_t)number, generation = (uint32_t)(number >> 32) & GENERATION_MASK;
    struct pending *p = slot < t->slab.touched ? slab_at(&t->slab, slot) : NULL;
    return p && generation && p->generation == generation ? p : NULL;
}

void pending_release(struct pendings *t, struct pending *p)
{
    flow_drop(t->ways, &p->flow);
    list_del(&p->in_order);
    p->generation = 0;
    if (p->stranger) {
        t->strangers--;
        t->by_source[p->stranger - 1]--;
    }
    slab_free(&t->slab, p);
}
