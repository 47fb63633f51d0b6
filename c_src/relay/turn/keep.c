/*
 * The state of a session is told in the frames that would make it: one format for what Erlang has
 * replayed in a new relay, and for what it adopts from one that has outlived it.
 */
#include "keep.h"

#include <stdlib.h>

#include "alloc.h"
#include "mail.h"
#include "post.h"
#include "reply.h"
#include "request.h"

enum {
    PAGE = 16 * 1024,             /* with the session that begins within it */
    PAGE_MAX = PAGE + 128 * 1024, /* of which one may have 1024 permissions and as many channels */
};

void keep_note(struct shard *sh, const struct ctl_note *m)
{
    struct session *s = session_by_id(&sh->sessions, m->session);
    if (s && m->note.len <= CTL_NOTE_BYTES_MAX)
        session_set_note(s, m->note.data, m->note.len);
}

/* --------------------------------------------------------------------------- Erlang is gone */

struct session *keep_session_at(const struct shard *sh, uint64_t at)
{
    struct session *s = slab_at(&sh->sessions.session_slab, (uint32_t)at);
    return s->id && session_by_id(&sh->sessions, s->id) == s ? s : NULL;
}

bool keep_forget(struct shard *sh)
{
    if (!post_mail(sh, MAIL_FORGOT, NULL, 0, NULL, 0, 0))
        return false;
    request_forget_all(sh);
    journal_close(&sh->journal);
    sh->promise.ref = 0;
    for (uint64_t i = 0; i < sh->sessions.session_slab.touched; i++) {
        struct session *s = keep_session_at(sh, i);
        if (s && !s->note)
            alloc_end(sh, s, GONE_DELETED);
    }
    return true;
}

/* ------------------------------------------------------------------------ as commands make it */

/* A frame behind its length. What does not fit is seen by `overflow`. */
static void put(struct wbytes *w, const struct ctl_frame *f)
{
    uint8_t *length = wbytes_room(w, 4);
    size_t len = length ? ctl_encode(f, w->p, (size_t)(w->end - w->p)) : 0;
    if (!len) {
        w->overflow = true;
        return;
    }
    store32(length, (uint32_t)len);
    w->p += len;
}

static uint32_t left_ms(const struct shard *sh, uint64_t deadline)
{
    return deadline > sh->time.now ? (uint32_t)((deadline - sh->time.now) / NS_PER_MS) : 0;
}

static uint32_t listener_of(const struct shard *sh, const struct flow *f)
{
    const struct listener *l = shard_listener_of(sh, f);
    return l ? l->id : 0;
}

static uint64_t per_second(const struct rate *r)
{
    return r->unit ? (NS_PER_S << 16) / r->unit : 0;
}

static void put_create(const struct shard *sh, const struct session *s, struct wbytes *w)
{
    struct ctl_frame f = {.code = CTL_ALLOC_CREATE,
                          .u.alloc_create = {.session = s->id,
                                             .listener = listener_of(sh, &s->flow),
                                             .transport = s->flow.transport->kind,
                                             .client = s->flow.client,
                                             .server = s->flow.server,
                                             .lifetime_ms = left_ms(sh, s->expires),
                                             .bytes_per_s = per_second(&s->rate),
                                             .packets_per_s = (uint32_t)per_second(&s->pace),
                                             .protocol = s->tcp ? IPPROTO_TCP : IPPROTO_UDP}};
    struct ctl_alloc_create *m = &f.u.alloc_create;
    if (s->user)
        m->bucket = (uint32_t)(s->user - sh->config.limits->users);
    if (s->tcp) {
        bool v4 = s->tcp->family == ADDR_V4;
        *(v4 ? &m->pool_v4 : &m->pool_v6) = s->tcp->pool->id;
        *(v4 ? &m->port_v4 : &m->port_v6) = s->tcp->port;
        m->connections_max = (uint16_t)s->tcp->max;
    }
    for (int i = 0; i < 2; i++) {
        const struct relayed *r = &s->relayed[i];
        if (!r->open || r->io.removing)
            continue;
        *(i ? &m->pool_v6 : &m->pool_v4) = r->pool->id;
        *(i ? &m->port_v6 : &m->port_v4) = r->port;
    }
    put(w, &f);
}

/* The address that ends before the session does. */
static void put_refresh(const struct shard *sh, const struct session *s, struct wbytes *w)
{
    for (int i = 0; i < 2; i++) {
        const struct relayed *r = &s->relayed[i];
        struct ctl_frame f = {.code = CTL_ALLOC_REFRESH,
                              .u.alloc_refresh = {.session = s->id,
                                                  .family = i ? ADDR_V6 : ADDR_V4,
                                                  .lifetime_ms = left_ms(sh, r->deadline)}};
        if (r->open && !r->io.removing && r->deadline < s->expires)
            put(w, &f);
    }
}

static void put_channels(const struct shard *sh, const struct session *s, struct wbytes *w)
{
    for (struct list *at = s->channels.next; at != &s->channels; at = at->next) {
        struct channel *c = container_of(at, struct channel, in_session);
        const struct permission *p = channel_permission(&sh->sessions, c, sh->time.now);
        struct ctl_frame f = {
            .code = CTL_CHANNEL,
            .u.channel = {.session = s->id,
                          .number = c->number,
                          .peer = c->peer,
                          .lifetime_ms = left_ms(sh, c->timer.deadline),
                          .permission_ms = p ? left_ms(sh, p->timer.deadline) : 0}};
        if (f.u.channel.lifetime_ms)
            put(w, &f);
    }
}

static void put_permissions(const struct shard *sh, const struct session *s, struct wbytes *w)
{
    for (struct list *at = s->permissions.next; at != &s->permissions; at = at->next) {
        const struct permission *p = container_of(at, struct permission, in_session);
        uint8_t peer[1 + 2 + 16];
        struct wbytes peers = wbytes_of(peer, sizeof(peer));
        ctl_put_addr(&peers, &p->ip);
        struct ctl_frame f = {.code = CTL_PERMIT,
                              .u.permit = {.session = s->id,
                                           .lifetime_ms = left_ms(sh, p->timer.deadline),
                                           .peers = ctl_bytes_of(peer, wbytes_len(&peers))}};
        if (f.u.permit.lifetime_ms)
            put(w, &f);
    }
}

static void put_move(const struct shard *sh, const struct session *s, struct wbytes *w)
{
    const struct flow *to = &s->move->flow;
    struct ctl_frame f = {.code = CTL_ALLOC_MOVE,
                          .u.alloc_move = {.session = s->id,
                                           .listener = listener_of(sh, to),
                                           .transport = to->transport->kind,
                                           .client = to->client,
                                           .server = to->server}};
    put(w, &f);
}

/* Connections with peers that a client has taken up, or may take up. */
static void put_connections(const struct session *s, struct wbytes *w)
{
    for (struct list *at = s->tcp->peers.next; at != &s->tcp->peers; at = at->next) {
        const struct peer_stream *p = container_of(at, struct peer_stream, in_relay);
        struct ctl_frame made = {
            .code = CTL_CONNECTED,
            .u.connected = {.session = s->id, .connection = p->id, .peer = p->peer}};
        struct ctl_frame joined = {.code = CTL_JOIN,
                                   .u.join = {.session = s->id, .connection = p->id}};
        if (p->state == PEER_WAITING || p->state == PEER_JOINED)
            put(w, &made);
        if (p->state == PEER_JOINED)
            put(w, &joined);
    }
}

static void put_note(const struct session *s, struct wbytes *w)
{
    struct ctl_frame f = {
        .code = CTL_NOTE,
        .u.note = {.session = s->id, .note = ctl_bytes_of(s->note->bytes, s->note->len)}};
    put(w, &f);
}

void keep_put_session(const struct shard *sh, const struct session *s, struct wbytes *w)
{
    put_create(sh, s, w);
    put_refresh(sh, s, w);
    put_channels(sh, s, w);
    put_permissions(sh, s, w);
    if (s->move)
        put_move(sh, s, w);
    if (s->tcp)
        put_connections(s, w);
    put_note(s, w);
}

/* The cursor is as in alloc_list. The page goes out as it is: its frame is put around it here. */
bool keep_states(struct shard *sh, const struct ctl_frame *f)
{
    const struct slab *slab = &sh->sessions.session_slab;
    const uint64_t worker = f->u.states.from >> 56 << 56;
    uint64_t at = f->u.states.from & ~(0xffULL << 56);
    uint8_t *page = malloc(PAGE_MAX), *frame = malloc(PAGE_MAX + CTL_PLAIN_MAX);
    struct wbytes w = wbytes_of(page, page ? PAGE_MAX : 0);
    bool told = false;
    for (; page && frame && at < slab->touched && wbytes_len(&w) < PAGE; at++) {
        const struct session *s = keep_session_at(sh, at);
        if (s && s->note && session_alive(s, sh->time.now))
            keep_put_session(sh, s, &w);
    }
    if (page && frame && !w.overflow) {
        struct ctl_frame out = {.code = CTL_STATE,
                                .ref = f->ref,
                                .u.state = {.next = at < slab->touched ? worker | at : 0,
                                            .frames = ctl_bytes_of(page, wbytes_len(&w))}};
        size_t len = ctl_encode(&out, frame, PAGE_MAX + CTL_PLAIN_MAX);
        told = post_mail(sh, MAIL_FRAME, frame, len, NULL, 0, MAIL_RESERVE);
    } else {
        reply(sh, f, 0, CTL_FAILED, "no memory");
        told = true;
    }
    free(page);
    free(frame);
    return told;
}
