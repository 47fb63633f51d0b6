#include "left.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool left_add(struct left *l, const struct left_socket *s)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct left_socket *more = realloc(l->sockets, cap * sizeof(*more));
        if (!more)
            return false;
        l->sockets = more;
        l->cap = cap;
    }
    l->sockets[l->count++] = *s;
    l->sorted = false;
    return true;
}

static int in_order(const void *one, const void *other)
{
    const struct left_socket *a = one, *b = other;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->local.family != b->local.family)
        return a->local.family < b->local.family ? -1 : 1;
    if (a->local.port != b->local.port)
        return a->local.port < b->local.port ? -1 : 1;
    int ip = memcmp(a->local.ip, b->local.ip, sizeof(a->local.ip));
    if (ip)
        return ip;
    return a->worker == b->worker ? 0 : a->worker < b->worker ? -1 : 1;
}

/* The one of that worker; NULL where it is not there, or was taken. */
static struct left_socket *find(struct left *l, enum left_kind kind, const struct addr *local,
                                unsigned worker)
{
    const struct left_socket wanted = {.kind = (uint8_t)kind, .local = *local, .worker = worker};
    if (!l->count)
        return NULL;
    if (!l->sorted)
        qsort(l->sockets, l->count, sizeof(*l->sockets), in_order);
    l->sorted = true;
    struct left_socket *s = bsearch(&wanted, l->sockets, l->count, sizeof(*l->sockets), in_order);
    return s && s->fd >= 0 ? s : NULL;
}

static int take(struct left_socket *s, struct socket_past *past)
{
    int fd = s->fd;
    *past = s->past;
    s->fd = -1;
    return fd;
}

int left_take(struct left *l, enum left_kind kind, const struct addr *local,
              struct socket_past *past)
{
    struct left_socket *s = find(l, kind, local, 0);
    *past = (struct socket_past){0};
    l->relayed += s != NULL;
    return s ? take(s, past) : -1;
}

/* Their number is told by a first that is missing, as they come in order. */
static unsigned group_size(struct left *l, enum left_kind kind, const struct addr *local)
{
    unsigned n = 0;
    while (find(l, kind, local, n))
        n++;
    return n;
}

bool left_take_group(struct left *l, enum left_kind kind, const struct addr *local, unsigned n,
                     int fds[], struct socket_past pasts[])
{
    struct socket_past none;
    unsigned there = group_size(l, kind, local);
    for (unsigned i = 0; i < there; i++) {
        int fd = take(find(l, kind, local, i), there == n ? &pasts[i] : &none);
        if (there == n)
            fds[i] = fd;
        else
            close(fd);
    }
    l->listeners += there == n ? n : 0;
    return there == n;
}

uint32_t left_end(struct left *l)
{
    uint32_t closed = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (l->sockets[i].fd < 0)
            continue;
        close(l->sockets[i].fd);
        closed++;
    }
    free(l->sockets);
    *l = (struct left){.listeners = l->listeners, .relayed = l->relayed};
    return closed;
}
