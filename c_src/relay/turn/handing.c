#include "handing.h"

#include <stdlib.h>
#include <string.h>

#include "conn_left.h"
#include "keep.h"
#include "offloading.h"
#include "post.h"

enum { ONE_MAX = 256 * 1024 }; /* of one session's messages */

/* ------------------------------------------------------------------------------- standing still */

void handing_hold(struct shard *sh)
{
    io_hold(sh->io);
    sh->holding = true;
    offloading_hold(sh, true);
}

void handing_go_on(struct shard *sh)
{
    io_go_on(sh->io);
    offloading_hold(sh, false);
    sh->holding = false;
}

void handing_look(struct shard *sh)
{
    if (sh->holding && io_is_still(sh->io) && post_mail(sh, MAIL_STILL, NULL, 0, NULL, 0, 0))
        sh->holding = false;
}

/* -------------------------------------------------------------------------------- what there is */

static void put_listeners(const struct shard *sh, struct handed *h)
{
    for (size_t i = 0; i < sh->listeners_used; i++) {
        const struct listener *l = &sh->listeners[i];
        struct ctl_socket m = {.local = l->local, .worker = (uint16_t)sh->config.index};
        if (!l->in_use || l->closing)
            continue;
        m.kind = l->transport->datagrams ? LEFT_DATAGRAMS : LEFT_STREAMS;
        m.lost = l->io.lost;
        m.whole = l->io.whole;
        handed_put_socket(h, &m, l->io.fd);
    }
}

static void put_relayed(const struct session *s, struct handed *h)
{
    for (int i = 0; i < 2; i++) {
        const struct relayed *r = &s->relayed[i];
        if (!r->open || r->io.removing)
            continue;
        struct ctl_socket m = {.kind = LEFT_RELAYED,
                               .local = r->pool->local,
                               .lost = r->io.lost,
                               .whole = r->io.whole};
        m.local.port = r->port;
        handed_put_socket(h, &m, r->io.fd);
    }
    if (s->tcp && s->tcp->open) {
        struct ctl_socket m = {.kind = LEFT_RELAYED_STREAM, .local = s->tcp->pool->local};
        m.local.port = s->tcp->port;
        handed_put_socket(h, &m, s->tcp->io.fd);
    }
}

static void put_connections(const struct shard *sh, struct handed *h)
{
    for (uint32_t i = 0; i < sh->streams.slab.touched; i++) {
        const struct stream *s = slab_at(&sh->streams.slab, i);
        if (s->by_tuple.link && conn_left_goes(s))
            conn_left_put(sh, s, h);
    }
}

static void put_sessions(const struct shard *sh, struct handed *h)
{
    uint8_t *one = malloc(ONE_MAX);
    h->failed |= !one;
    for (uint32_t i = 0; one && i < sh->sessions.session_slab.touched; i++) {
        const struct session *s = keep_session_at(sh, i);
        struct wbytes w = wbytes_of(one, ONE_MAX);
        if (!s || !s->note || !session_alive(s, sh->time.now))
            continue;
        put_relayed(s, h);
        keep_put_session(sh, s, &w);
        h->failed |= w.overflow;
        handed_put_frames(h, one, wbytes_len(&w));
    }
    free(one);
}

bool handing_hand(struct shard *sh)
{
    struct handed *h;
    if (!post_has_room(sh))
        return false;
    h = calloc(1, sizeof(*h));
    if (h) {
        put_listeners(sh, h);
        put_connections(sh, h);
        put_sessions(sh, h);
    }
    return post_mail(sh, MAIL_HANDED, &h, sizeof(h), NULL, 0, 0);
}
