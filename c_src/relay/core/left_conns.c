#include "left_conns.h"

#include <stdlib.h>
#include <unistd.h>

static bool has_place(struct left_conns *l)
{
    if (l->count < l->cap)
        return true;
    size_t cap = l->cap ? 2 * l->cap : 64;
    struct left_conn **more = realloc(l->all, cap * sizeof(*more));
    if (!more)
        return false;
    l->all = more;
    l->cap = cap;
    return true;
}

bool left_conns_add(struct left_conns *l, const struct ctl_socket *told, int fd)
{
    struct left_conn *c = has_place(l) ? malloc(sizeof(*c)) : NULL;
    if (!c)
        return false;
    *c = (struct left_conn){.fd = fd, .told = *told};
    l->all[l->count++] = c;
    return true;
}

bool left_conns_wait(struct left_conns *l, const uint8_t *frame, size_t len)
{
    /* One that comes without a connection is of a kind that this program does not know. */
    return !l->count || frames_add(&l->all[l->count - 1]->waiting, frame, len);
}

struct left_conn *left_conns_take(struct left_conns *l, uint32_t listener, size_t *at)
{
    for (; *at < l->count; ++*at) {
        struct left_conn *c = l->all[*at];
        if (!c || c->told.listener != listener)
            continue;
        l->all[*at] = NULL;
        l->taken++;
        return c;
    }
    return NULL;
}

void left_conn_end(struct left_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    frames_drop(&c->waiting);
    free(c);
}

uint32_t left_conns_end(struct left_conns *l)
{
    uint32_t n = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (!l->all[i])
            continue;
        left_conn_end(l->all[i]);
        n++;
    }
    free(l->all);
    *l = (struct left_conns){.taken = l->taken};
    return n;
}
