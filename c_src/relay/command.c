/*
 * What Erlang decided, carried out: sessions made and ended, permissions and channels installed,
 * policy replaced. Each command has exactly one reply, posted after it took effect, in the order
 * the commands came; a command waits in the mailbox until there is room for its reply.
 */
#include "input.h"
#include "socket.h"

#include <string.h>
#include <unistd.h>

enum {
    REPLY_ROOM = 1024,
    SESSION_ROW = 6 * 8,
    SESSION_ROWS_MAX = 64, /* in one frame */
};

static uint64_t in_ms(const struct worker *w, uint32_t ms)
{
    return w->time.now + ms * NS_PER_MS;
}

/* One that is too long was no promise to begin with: its client asks again. */
static void take_promise(struct worker *w, uint32_t ref, const struct ctl_answer_if *m)
{
    w->promise.ref = m->packet.len <= PROMISE_MAX ? ref : 0;
    if (!w->promise.ref)
        return;
    w->promise.flow = m->flow;
    w->promise.len = m->packet.len;
    memcpy(w->promise.packet, m->packet.data, m->packet.len);
}

/* Says whether the client has its answer now, so that nobody waits for the reply. */
static bool keep_promise(struct worker *w, uint32_t ref, enum ctl_status status)
{
    struct promise *p = &w->promise;
    bool kept = p->ref != 0 && p->ref == ref && status == CTL_OK;
    p->ref = 0;
    if (kept)
        request_answer(w, p->flow, p->packet, p->len);
    return kept;
}

static void reply(struct worker *w, const struct ctl_frame *to, uint64_t session,
                  enum ctl_status status, const char *detail)
{
    struct ctl_frame f = {.code = CTL_REPLY,
                          .ref = to->ref,
                          .u.reply = {.command = to->code,
                                      .status = status,
                                      .session = session,
                                      .detail = ctl_bytes_of(detail, strlen(detail))}};
    bool answered = keep_promise(w, to->ref, status);
    bool rang = w->rang;
    if (answered)
        rang = worker_calm(w);
    worker_post(w, &f, false);
    if (answered)
        worker_haste(w, rang);
}

/* ------------------------------------------------------------------------------------- the end */

static void post_port_free(struct worker *w, const struct port *port)
{
    struct mail_port m = {port->pool, port->port};
    worker_mail(w, MAIL_PORT_FREE, &m, sizeof(m), NULL, 0, 0); /* room was asked for before */
}

static bool sockets_closed(const struct session *s)
{
    return !s->relayed[0].open && !s->relayed[1].open;
}

static void report_later(struct worker *w, struct session *s)
{
    if (list_empty(&s->in_gone))
        list_add_tail(&w->sessions.gone, &s->in_gone);
}

/* Both steps of the end of one relayed address begin here. */
static void close_relayed(struct worker *w, struct session *s, struct relayed *r, uint8_t family)
{
    if (!r->open || r->io.removing)
        return;
    io_remove(w->io, &r->io);
    session_forget_family(&w->sessions, s, family);
}

void command_end(struct worker *w, struct session *s, enum gone_reason reason)
{
    move_forget(w, s);
    session_kill(&w->sessions, s, reason);
    if (reason == GONE_EXPIRED)
        count(w, CTR_sessions_expired);
    close_relayed(w, s, &s->relayed[0], ADDR_V4);
    close_relayed(w, s, &s->relayed[1], ADDR_V6);
    if (sockets_closed(s))
        report_later(w, s);
}

/* Ends the families whose time has come, and with the last one the session. */
static void end_what_is_over(struct worker *w, struct session *s, enum gone_reason reason)
{
    static const uint8_t families[2] = {ADDR_V4, ADDR_V6};
    session_set_timer(&w->sessions, s);
    if (!session_alive(s, w->time.now)) {
        command_end(w, s, reason);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (s->relayed[i].deadline <= w->time.now)
            close_relayed(w, s, &s->relayed[i], families[i]);
    session_set_timer(&w->sessions, s);
}

void command_expire(struct worker *w, struct session *s)
{
    end_what_is_over(w, s, GONE_EXPIRED);
}

void command_socket_closed(struct worker *w, struct relayed *r)
{
    r->open = false;
    report_later(w, r->session);
}

/* What a session has counted, as SESSION_GONE and SESSION_STATS have it. */
#define DROPPED(s, name) .name = (s)->drops[CTR_##name - CTR_no_channel]
#define COUNTS(s)                                                                                  \
    .client_packets = (s)->client_packets, .client_bytes = (s)->client_bytes,                      \
    .peer_packets = (s)->peer_packets, .peer_bytes = (s)->peer_bytes, .dropped = (s)->dropped,     \
    DROPPED(s, no_channel), DROPPED(s, bad_channel), DROPPED(s, bad_indication),                   \
    DROPPED(s, no_permission), DROPPED(s, forbidden_peer), DROPPED(s, peer_family),                \
    DROPPED(s, truncated), DROPPED(s, over_bandwidth)

static void post_gone(struct worker *w, const struct session *s)
{
    struct ctl_frame f = {.code = CTL_SESSION_GONE,
                          .u.session_gone = {.session = s->id, .reason = s->reason, COUNTS(s)}};
    worker_post(w, &f, false);
}

/* In no haste: who deleted it has an answer already, and who did not waits for nothing. */
void command_report_gone(struct worker *w)
{
    bool rang = worker_calm(w);
    while (!list_empty(&w->sessions.gone) && mailbox_room(&w->out) > REPLY_ROOM) {
        struct session *s = container_of(w->sessions.gone.next, struct session, in_gone);
        list_del(&s->in_gone);
        /* Ports first: whoever hears of the end may count on them. */
        for (int i = 0; i < 2; i++) {
            struct relayed *r = &s->relayed[i];
            if (!r->pool || r->open)
                continue;
            post_port_free(w, &(struct port){r->pool, r->port, -1});
            r->pool = NULL;
        }
        if (s->dying && sockets_closed(s)) {
            post_gone(w, s);
            session_free(&w->sessions, s);
        }
    }
    worker_haste(w, rang);
}

/* ----------------------------------------------------------------------------------- the start */

static enum ctl_status open_relayed(struct worker *w, struct session *s, int family,
                                    const struct port *port, uint64_t deadline)
{
    struct relayed *r = &s->relayed[family];
    r->pool = port->pool;
    r->port = port->port;
    r->io = (struct io_socket){.fd = port->fd, .kind = SOCKET_RELAYED, .wants_errors = true};
    if (io_add(w->io, &r->io) != 0) {
        close(port->fd);
        post_port_free(w, port);
        r->pool = NULL;
        return CTL_FULL;
    }
    r->open = true;
    r->deadline = deadline;
    return CTL_OK;
}

static enum ctl_status make_session(struct worker *w, const struct mail_alloc *m,
                                    struct session **out)
{
    struct flow f = {.listener = worker_listener(w, m->listener),
                     .client = m->client,
                     .server = m->server,
                     .transport = &transport_udp};
    if (!f.listener || m->transport != transport_udp.protocol)
        return CTL_GONE;
    if (session_find(&w->sessions, &f) || session_by_id(&w->sessions, m->session))
        return CTL_CONFLICT;
    struct session *s = session_create(&w->sessions, m->session, &f);
    if (!s)
        return CTL_FULL;
    move_settle(w, s, m->home);
    s->rate = bandwidth(m->bytes_per_s);
    if (m->bucket && m->bucket < w->config.limits->users_max)
        s->user = &w->config.limits->users[m->bucket];
    count(w, CTR_sessions_created);
    *out = s;
    return CTL_OK;
}

bool command_alloc(struct worker *w, const struct mail_alloc *m)
{
    if (mailbox_room(&w->out) < REPLY_ROOM)
        return false;
    struct session *s = NULL;
    struct ctl_frame f = {.code = CTL_ALLOC_CREATED, .ref = m->ref};
    struct ctl_alloc_created *created = &f.u.alloc_created;
    created->session = m->session;
    created->status_v4 = m->status[0];
    created->status_v6 = m->status[1];
    created->status = make_session(w, m, &s);
    for (int i = 0; i < 2; i++) {
        const struct port *port = &m->relayed[i];
        uint16_t *status = i ? &created->status_v6 : &created->status_v4;
        if (!port->pool)
            continue;
        if (!s) {
            close(port->fd);
            post_port_free(w, port);
            continue;
        }
        *status = open_relayed(w, s, i, port, in_ms(w, m->lifetime_ms));
        if (*status != CTL_OK)
            continue;
        *(i ? &created->relayed_v6 : &created->relayed_v4) = relayed_advertised(&s->relayed[i]);
        *(i ? &created->pool_v6 : &created->pool_v4) = port->pool->id;
    }
    if (s)
        session_set_timer(&w->sessions, s);
    if (s && sockets_closed(s)) { /* not one would open */
        created->status = CTL_FULL;
        session_kill(&w->sessions, s, GONE_SOCKET);
        session_free(&w->sessions, s);
    }
    if (created->status == CTL_OK)
        created->token = m->token;
    worker_post(w, &f, false);
    return true;
}

/* -------------------------------------------------------------------- permissions and channels */

/* The checks every peer passes before anything is installed for it. */
static enum ctl_status check_peer(struct worker *w, struct session *s, const struct addr *peer,
                                  char why_not[POLICY_TEXT_MAX])
{
    if (!session_relayed(s, peer->family, w->time.now))
        return CTL_FAMILY;
    if (!w->policy || !policy_allows_ip(w->policy, w->config.ports, peer, why_not))
        return CTL_FORBIDDEN;
    return CTL_OK;
}

static void permit_one(struct worker *w, struct session *s, const struct addr *peer,
                       uint64_t deadline)
{
    struct permission *p = permission_set(&w->sessions, s, peer, deadline);
    p->is_own = policy_is_own(w->policy, w->config.ports, peer);
}

static bool room_for(const struct slab *slab, uint32_t n)
{
    return slab->max - slab->live >= n;
}

static void permit(struct worker *w, const struct ctl_frame *f)
{
    const struct ctl_permit *m = &f->u.permit;
    struct session *s = session_by_id(&w->sessions, m->session);
    struct bytes cur = ctl_cursor(m->peers);
    char why_not[POLICY_TEXT_MAX] = "";
    struct addr peer;
    uint32_t n = 0;
    enum ctl_status status = s ? CTL_OK : CTL_GONE;
    while (status == CTL_OK && ctl_next_addr(&cur, &peer)) {
        status = check_peer(w, s, &peer, why_not);
        n += !permission_exists(&w->sessions, s, &peer);
    }
    if (status == CTL_OK && bytes_left(&cur))
        status = CTL_REFUSED;
    if (status == CTL_OK && !room_for(&w->sessions.permission_slab, n))
        status = CTL_FULL;
    if (status == CTL_OK) {
        cur = ctl_cursor(m->peers);
        while (ctl_next_addr(&cur, &peer))
            permit_one(w, s, &peer, in_ms(w, m->lifetime_ms));
    }
    reply(w, f, m->session, status, why_not);
}

static enum ctl_status bind_channel(struct worker *w, struct session *s,
                                    const struct ctl_channel *m, char why_not[POLICY_TEXT_MAX])
{
    enum ctl_status status = check_peer(w, s, &m->peer, why_not);
    if (status)
        return status;
    if (m->number < CHANNEL_MIN || m->number > w->config.channel_max || m->peer.port == 0)
        return CTL_REFUSED;
    struct addr self = relayed_local(session_relayed(s, m->peer.family, w->time.now));
    if (policy_is_own(w->policy, w->config.ports, &m->peer) &&
        !policy_allows_port(w->policy, w->config.ports, &m->peer, &self)) {
        memcpy(why_not, "a port of this host", sizeof("a port of this host"));
        return CTL_FORBIDDEN;
    }
    uint64_t now = w->time.now;
    struct channel *same_number = channel_by_number(&w->sessions, s, m->number, now);
    struct channel *same_peer = channel_by_peer(&w->sessions, s, &m->peer, now);
    if (same_number != same_peer)
        return CTL_CONFLICT; /* RFC 8656 12.2: either is bound to another */
    bool adds = m->permission_ms && !permission_exists(&w->sessions, s, &m->peer);
    if (!room_for(&w->sessions.permission_slab, adds ? 1 : 0) ||
        !channel_set(&w->sessions, s, m->number, &m->peer, in_ms(w, m->lifetime_ms)))
        return CTL_FULL;
    if (m->permission_ms)
        permit_one(w, s, &m->peer, in_ms(w, m->permission_ms));
    return CTL_OK;
}

static void channel(struct worker *w, const struct ctl_frame *f)
{
    struct session *s = session_by_id(&w->sessions, f->u.channel.session);
    char why_not[POLICY_TEXT_MAX] = "";
    enum ctl_status status = s ? bind_channel(w, s, &f->u.channel, why_not) : CTL_GONE;
    reply(w, f, f->u.channel.session, status, why_not);
}

/* Whatever the new lists forbid stops now (threat X16). */
void command_policy(struct worker *w, struct policy *p)
{
    char why_not[POLICY_TEXT_MAX];
    policy_free(w->policy);
    w->policy = p;
    for (uint32_t i = 0; i < w->sessions.permission_slab.touched; i++) {
        struct permission *perm = slab_at(&w->sessions.permission_slab, i);
        if (!perm->by_ip.link)
            continue; /* free */
        if (!policy_allows_ip(p, w->config.ports, &perm->ip, why_not))
            permission_remove(&w->sessions, perm);
        else
            perm->is_own = policy_is_own(p, w->config.ports, &perm->ip);
    }
}

/* ------------------------------------------------------------------------------------ the rest */

static void refresh(struct worker *w, const struct ctl_frame *f)
{
    const struct ctl_alloc_refresh *m = &f->u.alloc_refresh;
    struct session *s = session_by_id(&w->sessions, m->session);
    enum ctl_status status = s ? CTL_FAMILY : CTL_GONE;
    for (int i = 0; s && i < 2; i++) {
        bool meant = m->family == 0 || (m->family == ADDR_V6) == i;
        struct relayed *r = &s->relayed[i];
        if (!meant || !r->open || r->io.removing)
            continue;
        r->deadline = in_ms(w, m->lifetime_ms);
        status = CTL_OK;
    }
    if (s)
        end_what_is_over(w, s, GONE_DELETED);
    reply(w, f, m->session, status, "");
}

static void session_info(struct worker *w, const struct ctl_frame *f)
{
    const struct session *s = session_by_id(&w->sessions, f->u.session_info.session);
    if (!s) {
        reply(w, f, f->u.session_info.session, CTL_GONE, "");
        return;
    }
    struct ctl_frame out = {
        .code = CTL_SESSION_STATS, .ref = f->ref, .u.session_stats = {.session = s->id, COUNTS(s)}};
    worker_post(w, &out, false);
}

static void put_row(uint8_t *out, const struct session *s)
{
    const uint64_t row[] = {s->id,           s->client_packets, s->client_bytes,
                            s->peer_packets, s->peer_bytes,     s->dropped};
    _Static_assert(sizeof(row) == SESSION_ROW, "as SESSION_ROWS has it");
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        store64(out + i * 8, row[i]);
}

/* The cursor is a place in the slab: who comes and goes meanwhile is seen once or not at all. */
static bool sessions(struct worker *w, const struct ctl_frame *f)
{
    const struct slab *slab = &w->sessions.session_slab;
    const uint64_t worker = f->u.sessions.from >> 56 << 56;
    uint64_t at = f->u.sessions.from & ~(0xffULL << 56);
    uint8_t rows[SESSION_ROWS_MAX * SESSION_ROW];
    _Static_assert(sizeof(rows) <= REQUEST_MAX, "worker_post has room");
    size_t n = 0;
    for (; at < slab->touched && n < SESSION_ROWS_MAX; at++) {
        const struct session *s = slab_at(slab, (uint32_t)at);
        if (s->id && session_by_id(&w->sessions, s->id) == s)
            put_row(rows + n++ * SESSION_ROW, s);
    }
    struct ctl_frame out = {.code = CTL_SESSION_ROWS,
                            .ref = f->ref,
                            .u.session_rows = {.next = at < slab->touched ? worker | at : 0,
                                               .rows = ctl_bytes_of(rows, n * SESSION_ROW)}};
    return worker_post(w, &out, true); /* it can wait as requests can */
}

static void unlisten(struct worker *w, const struct ctl_frame *f)
{
    struct listener *l = worker_listener(w, f->u.unlisten.listener);
    if (l)
        l->open = false; /* closed by the worker once nobody needs it anywhere */
}

static void tune(struct worker *w, const struct ctl_frame *f)
{
    const struct ctl_tune *m = &f->u.tune;
    const struct socket_buffers buffers = {m->receive_buffer, m->send_buffer};
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (w->listeners[i].in_use && !w->listeners[i].closing)
            socket_set_buffers(w->listeners[i].io.fd, &buffers);
    w->config.nonce_lifetime_s = m->nonce_lifetime_s;
    w->config.nonce_features = m->nonce_features;
    w->config.channel_max = m->channel_max;
    w->config.rfc3489 = m->rfc3489 != 0;
}

bool command_frame(struct worker *w, const uint8_t *data, size_t len)
{
    struct ctl_frame f;
    if (ctl_decode(&f, data, len) != CTL_ERR_NONE)
        return true; /* the control thread has decoded it before */
    if (f.code == CTL_ANSWER) {
        request_answer(w, f.u.answer.flow, f.u.answer.packet.data, f.u.answer.packet.len);
        return true;
    }
    if (f.code == CTL_ANSWER_IF) {
        take_promise(w, f.ref, &f.u.answer_if);
        return true;
    }
    if (mailbox_room(&w->out) < REPLY_ROOM)
        return false;
    switch (f.code) {
    case CTL_PERMIT:
        permit(w, &f);
        break;
    case CTL_CHANNEL:
        channel(w, &f);
        break;
    case CTL_ALLOC_REFRESH:
        refresh(w, &f);
        break;
    case CTL_ALLOC_DELETE: {
        struct session *s = session_by_id(&w->sessions, f.u.alloc_delete.session);
        if (s)
            command_end(w, s, GONE_DELETED);
        else
            reply(w, &f, f.u.alloc_delete.session, CTL_GONE, "");
        break;
    }
    case CTL_SESSION_INFO:
        session_info(w, &f);
        break;
    case CTL_SESSIONS:
        return sessions(w, &f);
    case CTL_UNLISTEN:
        unlisten(w, &f);
        break;
    case CTL_TUNE:
        tune(w, &f);
        break;
    default:
        break;
    }
    return true;
}
