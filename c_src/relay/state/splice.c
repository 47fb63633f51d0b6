#include "splice.h"

#include <unistd.h>

bool splices_init(struct splices *t)
{
    *t = (struct splices){.bytes = memory_reserve(SPLICE_BYTES)};
    return t->bytes && slab_init(&t->slab, sizeof(struct splice), SPLICES_MAX);
}

static void close_sides(const struct splice *s)
{
    close(s->sides[SPLICE_CLIENT].fd);
    close(s->sides[SPLICE_WEB].fd);
}

void splices_destroy(struct splices *t)
{
    for (uint32_t i = 0; i < t->slab.touched; i++) {
        const struct splice *s = slab_at(&t->slab, i);
        if (s->used)
            close_sides(s);
    }
    memory_release(t->bytes, SPLICE_BYTES);
    slab_destroy(&t->slab);
    *t = (struct splices){0};
}

struct splice *splice_create(struct splices *t, int client_fd, int web_fd)
{
    struct splice *s = slab_alloc(&t->slab);
    if (!s)
        return NULL;
    s->sides[SPLICE_CLIENT].fd = client_fd;
    s->sides[SPLICE_WEB].fd = web_fd;
    s->used = true;
    return s;
}

void splice_free(struct splices *t, struct splice *s)
{
    close_sides(s);
    s->used = false;
    slab_free(&t->slab, s);
}
