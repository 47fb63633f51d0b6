#include "tcp_relay.h"

#include <unistd.h>

bool tcp_relays_init(struct tcp_relays *t, uint32_t sessions_max)
{
    *t = (struct tcp_relays){0};
    list_init(&t->news);
    return slab_init(&t->relays, sizeof(struct tcp_relay), sessions_max) &&
           slab_init(&t->peers, sizeof(struct peer_stream), PEER_STREAMS);
}

void tcp_relays_destroy(struct tcp_relays *t, struct cells *cells)
{
    for (uint32_t i = 0; i < t->peers.touched; i++) {
        struct peer_stream *p = slab_at(&t->peers, i);
        if (!p->since) /* free */
            continue;
        if (p->io.fd >= 0)
            close(p->io.fd);
        peer_stream_free(t, cells, p);
    }
    for (uint32_t i = 0; i < t->relays.touched; i++) {
        struct tcp_relay *r = slab_at(&t->relays, i);
        if (r->open)
            close(r->io.fd);
    }
    slab_destroy(&t->peers);
    slab_destroy(&t->relays);
}

struct peer_stream *peer_stream_create(struct tcp_relays *t, struct tcp_relay *r,
                                       const struct addr *peer)
{
    struct peer_stream *p = r->live < r->max ? slab_alloc(&t->peers) : NULL;
    if (!p)
        return NULL;
    p->relay = r;
    p->peer = *peer;
    p->io.fd = -1;
    list_init(&p->in_news);
    list_init(&p->in_relay);
    list_add_tail(&r->peers, &p->in_relay);
    r->live++;
    return p;
}

void peer_stream_detach(struct peer_stream *p)
{
    if (!p->relay)
        return;
    list_del(&p->in_relay);
    p->relay->live--;
    p->relay = NULL;
}

void peer_stream_free(struct tcp_relays *t, struct cells *cells, struct peer_stream *p)
{
    peer_stream_detach(p);
    list_del(&p->in_news);
    chain_drop(cells, &p->out, p->out.len);
    p->since = 0;
    slab_free(&t->peers, p);
}

struct peer_stream *peer_stream_with(const struct tcp_relay *r, const struct addr *peer)
{
    struct list *at;
    list_for_each (at, &r->peers) {
        struct peer_stream *p = container_of(at, struct peer_stream, in_relay);
        if (p->news != PEER_DISCONNECTED && addr_equal(&p->peer, peer))
            return p;
    }
    return NULL;
}

struct peer_stream *peer_stream_by_id(const struct tcp_relay *r, uint32_t id)
{
    struct list *at;
    list_for_each (at, &r->peers) {
        struct peer_stream *p = container_of(at, struct peer_stream, in_relay);
        if (p->news != PEER_DISCONNECTED && p->id == id)
            return p;
    }
    return NULL;
}
