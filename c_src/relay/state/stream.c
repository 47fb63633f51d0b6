#include "stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

bool streams_init(struct streams *t, uint32_t max)
{
    *t = (struct streams){.spare = open("/dev/null", O_RDONLY | O_CLOEXEC)};
    list_init(&t->dirty);
    t->net = memory_reserve(STREAM_NET);
    t->plain = memory_reserve(STREAM_SEND);
    t->read = memory_reserve(STREAM_READS);
    return t->net && t->plain && t->read && slab_init(&t->slab, sizeof(struct stream), max) &&
           table_init(&t->by_tuple, max) && cells_init(&t->cells, STREAM_CELLS);
}

/* They may come home when nobody is there any more. */
static void drop_arrived(struct streams *t)
{
    struct post *p = posts_take(&t->home.arrived);
    while (p) {
        struct handshake *h = container_of(p, struct handshake, post);
        p = p->next;
        close(h->fd);
        tls_free(h->tls);
        free(h->in.data);
        free(h);
    }
}

void streams_destroy(struct streams *t)
{
    drop_arrived(t);
    for (uint32_t i = 0; i < t->slab.touched; i++) {
        struct stream *s = slab_at(&t->slab, i);
        if (!s->by_tuple.link)
            continue;
        if (s->state != STREAM_SHAKING)
            close(s->io.fd);
        stream_free(t, s);
    }
    memory_release(t->net, STREAM_NET);
    memory_release(t->plain, STREAM_SEND);
    memory_release(t->read, STREAM_READS);
    slab_destroy(&t->slab);
    table_destroy(&t->by_tuple);
    cells_destroy(&t->cells);
    if (t->spare >= 0)
        close(t->spare);
}

struct stream *stream_create(struct streams *t, int fd, const struct flow *f)
{
    struct stream *s = slab_alloc(&t->slab);
    if (!s)
        return NULL;
    s->io.fd = fd;
    s->flow = *f;
    list_init(&s->dirty);
    table_insert(&t->by_tuple, &s->by_tuple, tuple_hash(&t->by_tuple, &f->client, &f->server));
    t->live++;
    return s;
}

struct stream *stream_find(const struct streams *t, const struct addr *client,
                           const struct addr *server)
{
    struct table_node *n;
    uint32_t hash = tuple_hash(&t->by_tuple, client, server);
    table_for_each(n, &t->by_tuple, hash)
    {
        struct stream *s = container_of(n, struct stream, by_tuple);
        if (addr_equal(&s->flow.client, client) && addr_equal(&s->flow.server, server))
            return s;
    }
    return NULL;
}

void stream_free(struct streams *t, struct stream *s)
{
    table_remove(&t->by_tuple, &s->by_tuple);
    list_del(&s->dirty);
    tls_free(s->tls);
    chain_drop(&t->cells, &s->raw, s->raw.len);
    chain_drop(&t->cells, &s->in, s->in.len);
    chain_drop(&t->cells, &s->out, s->out.len);
    queue_clear(&t->cells, &s->queue);
    slab_free(&t->slab, s);
    t->live--;
}
