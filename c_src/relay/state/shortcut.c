#include "shortcut.h"

#include <string.h>

bool shortcuts_init(struct shortcuts *t, uint32_t max)
{
    return slab_init(&t->slab, sizeof(struct shortcut), max) && table_init(&t->by_pair, max) &&
           table_init(&t->by_flow, max);
}

void shortcuts_destroy(struct shortcuts *t)
{
    slab_destroy(&t->slab);
    table_destroy(&t->by_pair);
    table_destroy(&t->by_flow);
}

struct pair_key {
    uint64_t session;
    uint8_t ip[16];
    uint16_t port;
    uint8_t family;
    uint8_t zero[5];
};

static uint32_t pair_hash(const struct shortcuts *t, const struct session *s,
                          const struct addr *peer)
{
    struct pair_key key = {.session = (uintptr_t)s, .port = peer->port, .family = peer->family};
    memcpy(key.ip, peer->ip, 16);
    return table_hash(&t->by_pair, &key, sizeof(key));
}

struct shortcut *shortcut_find(const struct shortcuts *t, const struct session *s,
                               const struct addr *peer)
{
    uint32_t h = pair_hash(t, s, peer);
    struct table_node *n;
    table_for_each(n, &t->by_pair, h)
    {
        struct shortcut *sc = container_of(n, struct shortcut, by_pair);
        if (sc->session == s && addr_equal(&sc->peer, peer))
            return sc;
    }
    return NULL;
}

struct shortcut *shortcut_by_flow(const struct shortcuts *t, const struct flow *f)
{
    if (!t->by_flow.count)
        return NULL;
    uint32_t h = flow_hash(&t->by_flow, f);
    struct table_node *n;
    table_for_each(n, &t->by_flow, h)
    {
        struct shortcut *sc = container_of(n, struct shortcut, by_flow);
        if (flow_equal(&sc->flow, f))
            return sc;
    }
    return NULL;
}

struct shortcut *shortcut_create(struct shortcuts *t, struct session *s, struct shortcut **head,
                                 const struct addr *peer)
{
    struct shortcut *sc = slab_alloc(&t->slab);
    if (!sc)
        return NULL;
    sc->session = s;
    sc->peer = *peer;
    sc->next = *head;
    sc->link = head;
    if (sc->next)
        sc->next->link = &sc->next;
    *head = sc;
    table_insert(&t->by_pair, &sc->by_pair, pair_hash(t, s, peer));
    return sc;
}

void shortcut_learn(struct shortcuts *t, struct shortcut *sc, const struct shortcut_end *to,
                    const struct flow *f)
{
    shortcut_lose(t, sc);
    sc->to = *to;
    sc->flow = *f;
    table_insert(&t->by_flow, &sc->by_flow, flow_hash(&t->by_flow, &sc->flow));
}

void shortcut_lose(struct shortcuts *t, struct shortcut *sc)
{
    if (!sc->to.end)
        return;
    table_remove(&t->by_flow, &sc->by_flow);
    far_end_release(sc->to.end);
    sc->to.end = NULL;
}

void shortcut_remove(struct shortcuts *t, struct shortcut *sc)
{
    shortcut_lose(t, sc);
    table_remove(&t->by_pair, &sc->by_pair);
    *sc->link = sc->next;
    if (sc->next)
        sc->next->link = sc->link;
    slab_free(&t->slab, sc);
}
