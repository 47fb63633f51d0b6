#include "alloc.h"

#include <string.h>
#include <unistd.h>

#include "count.h"
#include "forward.h"
#include "move.h"
#include "peer_tcp.h"
#include "post.h"
#include "reply.h"
#include "shortcuts.h"
#include "unsent.h"

enum {
    SESSION_ROW = 6 * 8,
    SESSION_ROWS_MAX = 64, /* in one frame */
};

/* ------------------------------------------------------------------------------------- the end */

static void post_port_free(struct shard *sh, const struct port *port)
{
    struct mail_port m = {port->pool, port->port};
    post_mail(sh, MAIL_PORT_FREE, &m, sizeof(m), NULL, 0, 0); /* room was asked for before */
}

static bool sockets_closed(const struct session *s)
{
    return !s->relayed[0].open && !s->relayed[1].open && !(s->tcp && s->tcp->open);
}

static void report_later(struct shard *sh, struct session *s)
{
    if (list_empty(&s->in_gone))
        list_add_tail(&sh->sessions.gone, &s->in_gone);
}

/* One relayed address ends: its socket is removed, and once that is closed (on_closed) the port is
 * free. Permissions and channels of its family go at once. */
static void close_relayed(struct shard *sh, struct session *s, struct relayed *r, uint8_t family)
{
    if (!r->open || r->io.removing)
        return;
    port_set_session(r->pool, r->port, 0);
    io_remove(sh->io, &r->io);
    session_forget_family(&sh->sessions, s, family);
}

void alloc_end(struct shard *sh, struct session *s, enum gone_reason reason)
{
    if (s->ended)
        list_del(&s->in_gone);
    s->ended = false;
    flow_kept(sh, &s->flow, false);
    session_kill(&sh->sessions, s, reason);
    if (reason == GONE_EXPIRED)
        count(sh, CTR_sessions_expired);
    close_relayed(sh, s, &s->relayed[0], ADDR_V4);
    close_relayed(sh, s, &s->relayed[1], ADDR_V6);
    if (s->tcp)
        peer_tcp_close(sh, s, reason == GONE_CLOSED);
    if (sockets_closed(s))
        report_later(sh, s);
}

void alloc_end_what_ended(struct shard *sh)
{
    while (!list_empty(&sh->sessions.ended))
        alloc_end(sh, container_of(sh->sessions.ended.next, struct session, in_gone), GONE_DELETED);
}

/* Ends the families whose time has come, and with the last one the session. */
static void end_what_is_over(struct shard *sh, struct session *s, enum gone_reason reason)
{
    static const uint8_t families[2] = {ADDR_V4, ADDR_V6};
    session_set_timer(&sh->sessions, s);
    if (!session_alive(s, sh->time.now)) {
        alloc_end(sh, s, reason);
        return;
    }
    for (int i = 0; i < 2; i++) /* of TCP there is one, so the session has ended */
        if (s->relayed[i].deadline <= sh->time.now)
            close_relayed(sh, s, &s->relayed[i], families[i]);
    session_set_timer(&sh->sessions, s);
}

static void on_due(struct timers *t, struct timer *timer)
{
    struct sessions *sessions = container_of(t, struct sessions, timers);
    end_what_is_over(container_of(sessions, struct shard, sessions),
                     container_of(timer, struct session, timer), GONE_EXPIRED);
}

/* What a session has counted, as SESSION_GONE and SESSION_STATS have it. */
#define DROPPED(s, name) .name = session_drops_for(s, CTR_##name - CTR_no_channel)
#define COUNTS(s)                                                                                  \
    .client_packets = (s)->client_packets, .client_bytes = (s)->client_bytes,                      \
    .peer_packets = (s)->peer_packets, .peer_bytes = (s)->peer_bytes,                              \
    .dropped = session_dropped(s), DROPPED(s, no_channel), DROPPED(s, bad_channel),                \
    DROPPED(s, bad_indication), DROPPED(s, no_permission), DROPPED(s, forbidden_peer),             \
    DROPPED(s, peer_family), DROPPED(s, truncated), DROPPED(s, over_bandwidth),                    \
    DROPPED(s, over_packet_rate), DROPPED(s, media_first), DROPPED(s, queue_late),                 \
    DROPPED(s, queue_full), DROPPED(s, send_queue_full), DROPPED(s, send_failed)

static void post_gone(struct shard *sh, struct session *s)
{
    session_collect(&sh->sessions, s);
    struct ctl_frame f = {.code = CTL_SESSION_GONE,
                          .u.session_gone = {.session = s->id, .reason = s->reason, COUNTS(s)}};
    post_frame(sh, &f);
}

/* Nobody waits for these frames: whoever deleted an allocation has an answer already, and of one
 * that expired Erlang hears unasked. So they may come a moment later. */
void alloc_report_gone(struct shard *sh)
{
    bool rang = post_calm(sh);
    while (!list_empty(&sh->sessions.gone) && post_has_room(sh)) {
        struct session *s = container_of(sh->sessions.gone.next, struct session, in_gone);
        list_del(&s->in_gone);
        /* Ports first: whoever hears of the end may count on them. */
        for (int i = 0; i < 2; i++) {
            struct relayed *r = &s->relayed[i];
            if (!r->pool || r->open)
                continue;
            post_port_free(sh, &(struct port){.pool = r->pool, .port = r->port, .fd = -1});
            r->pool = NULL;
        }
        if (s->dying && s->tcp && !s->tcp->open) {
            const struct port port = peer_tcp_release(sh, s);
            post_port_free(sh, &port);
        }
        if (s->dying && sockets_closed(s)) {
            move_forget(sh, s);
            post_gone(sh, s);
            session_free(&sh->sessions, s);
        }
    }
    post_haste(sh, rang);
}

/* ----------------------------------------------------------------------------------- the start */

static void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
{
    forward_peer(ctx, container_of(s, struct relayed, io), p);
}

static void on_icmp(void *ctx, struct io_socket *s, const struct io_icmp *icmp)
{
    forward_icmp(ctx, container_of(s, struct relayed, io), icmp);
}

static void on_closed(void *ctx, struct io_socket *s)
{
    struct relayed *r = container_of(s, struct relayed, io);
    r->open = false;
    report_later(ctx, r->session);
}

static void on_unsent(void *ctx, struct io_socket *s, const struct io_unsent *u)
{
    unsent_to_peer(ctx, container_of(s, struct relayed, io)->session, u);
}

static enum ctl_status open_relayed(struct shard *sh, struct session *s, int family,
                                    const struct port *port, uint64_t deadline)
{
    static const struct io_handler handler = {on_packet, on_icmp, on_closed, on_unsent};
    struct relayed *r = &s->relayed[family];
    r->pool = port->pool;
    r->port = port->port;
    r->io = (struct io_socket){.fd = port->fd,
                               .handler = &handler,
                               .wants_errors = true,
                               .lost = port->past.lost,
                               .whole = port->past.whole};
    if (io_add(sh->io, &r->io) != 0) {
        close(port->fd);
        post_port_free(sh, port);
        r->pool = NULL;
        return CTL_FULL;
    }
    r->open = true;
    r->deadline = deadline;
    port_set_session(r->pool, r->port, s->id);
    return CTL_OK;
}

static enum ctl_status open_stream(struct shard *sh, struct session *s, const struct port *port,
                                   const struct mail_alloc *m)
{
    if (peer_tcp_open(sh, s, port, shard_in_ms(sh, m->lifetime_ms), m->connections_max))
        return CTL_OK;
    close(port->fd);
    post_port_free(sh, port);
    return CTL_FULL;
}

static struct addr told(const struct port *port)
{
    struct addr a = port->pool->advertised;
    a.port = port->port;
    return a;
}

static enum ctl_status make_session(struct shard *sh, const struct mail_alloc *m,
                                    struct session **out)
{
    struct flow f;
    if (!shard_reach(sh, m->listener, m->transport, &m->client, &m->server, &f))
        return CTL_GONE;
    if (session_find(&sh->sessions, &f) || session_by_id(&sh->sessions, m->session))
        return CTL_CONFLICT;
    struct session *s = session_create(&sh->sessions, m->session, &f);
    if (!s)
        return CTL_FULL;
    s->timer.due = on_due;
    flow_kept(sh, &f, true);
    move_settle(sh, s, m->home);
    s->rate = bandwidth(m->bytes_per_s);
    s->pace = packet_rate(m->packets_per_s);
    if (m->bucket && m->bucket < sh->config.limits->users_max)
        s->user = &sh->config.limits->users[m->bucket];
    session_set_detour(s);
    count(sh, CTR_sessions_created);
    *out = s;
    return CTL_OK;
}

void alloc_create(struct shard *sh, const struct mail_alloc *m)
{
    struct session *s = NULL;
    struct ctl_frame f = {.code = CTL_ALLOC_CREATED, .ref = m->ref};
    struct ctl_alloc_created *created = &f.u.alloc_created;
    created->session = m->session;
    created->status_v4 = m->status[0];
    created->status_v6 = m->status[1];
    const char *detail = m->err ? strerror(m->err) : "";
    created->detail = ctl_bytes_of(detail, strlen(detail));
    created->status = make_session(sh, m, &s);
    for (int i = 0; i < 2; i++) {
        const struct port *port = &m->relayed[i];
        uint16_t *status = i ? &created->status_v6 : &created->status_v4;
        if (!port->pool)
            continue;
        if (!s) {
            close(port->fd);
            post_port_free(sh, port);
            continue;
        }
        *status = m->protocol == IPPROTO_TCP
                      ? open_stream(sh, s, port, m)
                      : open_relayed(sh, s, i, port, shard_in_ms(sh, m->lifetime_ms));
        if (*status != CTL_OK)
            continue;
        *(i ? &created->relayed_v6 : &created->relayed_v4) = told(port);
        *(i ? &created->pool_v6 : &created->pool_v4) = port->pool->id;
    }
    if (s)
        session_set_timer(&sh->sessions, s);
    if (s && sockets_closed(s)) { /* not one would open */
        created->status = CTL_FULL;
        move_forget(sh, s);
        flow_kept(sh, &s->flow, false);
        session_kill(&sh->sessions, s, GONE_SOCKET);
        session_free(&sh->sessions, s);
    }
    if (created->status == CTL_OK)
        created->token = m->token;
    post_frame(sh, &f);
}

void alloc_refresh(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_alloc_refresh *m = &f->u.alloc_refresh;
    struct session *s = session_by_id(&sh->sessions, m->session);
    enum ctl_status status = s ? CTL_FAMILY : CTL_GONE;
    for (int i = 0; s && i < 2; i++) {
        bool meant = m->family == 0 || (m->family == ADDR_V6) == i;
        struct relayed *r = &s->relayed[i];
        if (!meant || !r->open || r->io.removing)
            continue;
        session_set_deadline(s, r, shard_in_ms(sh, m->lifetime_ms));
        status = CTL_OK;
    }
    if (s && s->tcp && (m->family == 0 || m->family == s->tcp->family)) {
        s->tcp->deadline = shard_in_ms(sh, m->lifetime_ms);
        status = CTL_OK;
    }
    if (s)
        end_what_is_over(sh, s, GONE_DELETED);
    reply(sh, f, m->session, status, "");
}

void alloc_delete(struct shard *sh, const struct ctl_frame *f)
{
    struct session *s = session_by_id(&sh->sessions, f->u.alloc_delete.session);
    if (s)
        alloc_end(sh, s, GONE_DELETED);
    else
        reply(sh, f, f->u.alloc_delete.session, CTL_GONE, "");
}

bool alloc_info(struct shard *sh, const struct ctl_frame *f)
{
    uint8_t rows[CTL_CONNECTIONS_MAX * PEER_ROW];
    _Static_assert(sizeof(rows) <= REQUEST_MAX, "post_request has room");
    struct session *s = session_by_id(&sh->sessions, f->u.session_info.session);
    if (!s) {
        reply(sh, f, f->u.session_info.session, CTL_GONE, "");
        return true;
    }
    session_collect(&sh->sessions, s);
    size_t len = peer_tcp_rows(s, rows, sizeof(rows));
    struct ctl_frame out = {.code = CTL_SESSION_STATS,
                            .ref = f->ref,
                            .u.session_stats = {.session = s->id,
                                                COUNTS(s),
                                                .shortcuts = (uint16_t)shortcut_peers(sh, s),
                                                .connections = ctl_bytes_of(rows, len)}};
    if (len)
        return post_request(sh, &out);
    post_frame(sh, &out);
    return true;
}

static void put_row(struct sessions *t, uint8_t *out, struct session *s)
{
    session_collect(t, s);
    const uint64_t row[] = {s->id,           s->client_packets, s->client_bytes,
                            s->peer_packets, s->peer_bytes,     session_dropped(s)};
    _Static_assert(sizeof(row) == SESSION_ROW, "as SESSION_ROWS has it");
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        store64(out + i * 8, row[i]);
}

/* The cursor is a place in the slab: who comes and goes meanwhile is seen once or not at all. */
bool alloc_list(struct shard *sh, const struct ctl_frame *f)
{
    const struct slab *slab = &sh->sessions.session_slab;
    const uint64_t worker = f->u.sessions.from >> 56 << 56;
    uint64_t at = f->u.sessions.from & ~(0xffULL << 56);
    uint8_t rows[SESSION_ROWS_MAX * SESSION_ROW];
    _Static_assert(sizeof(rows) <= REQUEST_MAX, "worker_post has room");
    size_t n = 0;
    for (; at < slab->touched && n < SESSION_ROWS_MAX; at++) {
        struct session *s = slab_at(slab, (uint32_t)at);
        if (s->id && session_by_id(&sh->sessions, s->id) == s)
            put_row(&sh->sessions, rows + n++ * SESSION_ROW, s);
    }
    struct ctl_frame out = {.code = CTL_SESSION_ROWS,
                            .ref = f->ref,
                            .u.session_rows = {.next = at < slab->touched ? worker | at : 0,
                                               .rows = ctl_bytes_of(rows, n * SESSION_ROW)}};
    return post_request(sh, &out); /* it can wait as requests can */
}
