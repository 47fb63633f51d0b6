#include "listen.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "post.h"
#include "transports.h"

static void change(struct listener *l, const struct mail_listen *m)
{
    tls_store_release(l->certs);
    l->certs = m->certs;
    l->secured = l->secured || m->certs;
    l->other = m->other;
    l->realm_len = m->realm_len;
    memcpy(l->realm, m->realm, m->realm_len);
}

static struct listener *free_place(struct shard *sh)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (sh->listeners[i].in_use)
            continue;
        sh->listeners_used = MAX(sh->listeners_used, (unsigned)i + 1);
        return &sh->listeners[i];
    }
    return NULL;
}

/* 0 or -errno: the descriptor is closed then. */
static int add(struct shard *sh, const struct mail_listen *m)
{
    struct listener *l = free_place(sh);
    int ret = -ENOSPC;
    if (!l)
        goto err;
    *l = (struct listener){
        .id = m->id,
        .open = true,
        .in_use = true,
        .transport = transport_of(m->transport),
        .local = m->local,
        .io = {.fd = m->fd, .lost = m->past.lost, .whole = m->past.whole},
        .end = {.listener = l},
    };
    change(l, m);
    ret = l->transport->listen(sh, l);
    if (ret == 0) {
        way_open(&sh->ways, &l->end); /* there is one for each listener */
        return 0;
    }
    l->in_use = false;
err:
    tls_store_release(m->certs);
    close(m->fd);
    return ret;
}

/* What a listener that is there takes anew; it is open again, where it was not. -errno without. */
static int again(struct shard *sh, const struct mail_listen *m)
{
    struct listener *l = shard_listener(sh, m->id);
    if (!l) {
        tls_store_release(m->certs);
        return -ENOENT;
    }
    change(l, m);
    l->open = true;
    l->idle = false;
    return 0;
}

void listen_mail(struct shard *sh, const struct mail_listen *m)
{
    struct mail_listened said = {.id = m->id, .worker = sh->config.index};
    said.err = -(m->fd >= 0 ? add(sh, m) : again(sh, m));
    post_mail(sh, MAIL_LISTENED, &said, sizeof(said), NULL, 0, 0);
}

void listen_end(struct shard *sh, uint32_t id)
{
    struct listener *l = shard_listener(sh, id);
    if (l)
        l->open = false;
}

void listen_over(struct shard *sh, uint32_t id)
{
    struct listener *l = shard_listener(sh, id);
    if (!l)
        return;
    l->open = false; /* it may never have been, where another worker could not */
    l->over = true;
}

void listen_close(struct shard *sh)
{
    for (size_t i = 0; i < sh->listeners_used; i++) {
        struct listener *l = &sh->listeners[i];
        if (!l->in_use || l->open || l->closing)
            continue;
        pending_sweep(&sh->pending, sh->time.now); /* what Erlang has lost keeps no listener */
        proxieds_sweep(&sh->proxieds, l);
        if (l->end.holds)
            continue;
        if (l->over) {
            l->closing = true;
            way_close(&sh->ways, &l->end);
            l->transport->unlisten(sh, l);
        } else if (!l->idle) {
            l->idle = post_mail(sh, MAIL_IDLE, &l->id, sizeof(l->id), NULL, 0, 0);
        }
    }
}

void listen_buffers(struct shard *sh, const struct socket_buffers *b)
{
    for (size_t i = 0; i < sh->listeners_used; i++)
        if (sh->listeners[i].in_use && !sh->listeners[i].closing &&
            sh->listeners[i].transport->datagrams)
            socket_set_buffers(sh->listeners[i].io.fd, b);
}
