#include "peer_tcp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "count.h"
#include "judge.h"
#include "post.h"
#include "joined.h"

/* RFC 6062 5.2: a peer has 30 s at least to answer, and a client 30 s to take a connection up. */
#define CONNECT_NS (30 * NS_PER_S)
#define JOIN_NS    (30 * NS_PER_S)
/* What failed is told of no sooner, so that a scan of ports is slow, and who refuses looks like who
 * is a little farther away (threat X100); and up to as much again later. */
#define FAILURE_NS (500 * NS_PER_MS)

enum { ACCEPTS = 16 }; /* of a relayed address in a turn */

static struct shard *shard_of(struct timers *t)
{
    return container_of(container_of(t, struct sessions, timers), struct shard, sessions);
}

static struct addr local_of(const struct tcp_relay *r)
{
    struct addr a = r->pool->local;
    a.port = r->port;
    return a;
}

/* ------------------------------------------------------------------------------- what is told */

static bool post_connected(struct shard *sh, const struct peer_stream *p)
{
    char detail[POLICY_TEXT_MAX] = "";
    if (p->err)
        snprintf(detail, sizeof(detail), "%s", strerror(p->err));
    struct ctl_frame f = {.code = CTL_CONNECTED,
                          .u.connected = {.session = p->relay->session->id,
                                          .status = p->err ? CTL_FAILED : CTL_OK,
                                          .incoming = p->incoming,
                                          .connection = p->id,
                                          .peer = p->peer,
                                          .detail = ctl_bytes_of(detail, strlen(detail))}};
    return post_frame(sh, &f);
}

static bool post_disconnected(struct shard *sh, const struct peer_stream *p)
{
    struct ctl_frame f = {.code = CTL_DISCONNECTED,
                          .u.disconnected = {.session = p->relay->session->id,
                                             .connection = p->id,
                                             .reason = p->end,
                                             .client_bytes = p->client_bytes,
                                             .peer_bytes = p->peer_bytes}};
    return post_frame(sh, &f);
}

static void tell(struct shard *sh, struct peer_stream *p, enum peer_news news)
{
    p->news = (uint8_t)news;
    list_add_tail(&sh->tcp.news, &p->in_news);
}

static bool report(struct shard *sh, struct peer_stream *p)
{
    bool over = p->news == PEER_DISCONNECTED || p->err;
    if (p->news == PEER_CONNECTED ? !post_connected(sh, p) : !post_disconnected(sh, p))
        return false;
    list_del(&p->in_news);
    p->news = PEER_NO_NEWS;
    if (over)
        peer_stream_free(&sh->tcp, &sh->streams.cells, p);
    return true;
}

void peer_tcp_report(struct shard *sh)
{
    while (!list_empty(&sh->tcp.news) && post_has_room(sh))
        if (!report(sh, container_of(sh->tcp.news.next, struct peer_stream, in_news)))
            return;
}

/* ----------------------------------------------------------------------------------- connected */

static void on_waited(struct timers *t, struct timer *timer)
{
    joined_drop(shard_of(t), container_of(timer, struct peer_stream, timer), PEER_UNJOINED);
}

/* What a peer sends before a client takes the connection up waits in the kernel. Only its end is
 * looked at. */
static void on_waiting(void *ctx, struct io_stream *io, bool ended)
{
    uint8_t byte;
    struct peer_stream *p = container_of(io, struct peer_stream, io);
    ssize_t n = ended ? recv(io->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        joined_drop(ctx, p, PEER_BROKEN);
}

/* A random number, for nobody may guess it, and none that the session has already. Whether another
 * session has it is checked by Erlang. */
static uint32_t draw_id(struct shard *sh, const struct tcp_relay *r)
{
    uint32_t id;
    do
        shard_random(sh, &id, sizeof(id));
    while (id == 0 || peer_stream_by_id(r, id));
    return id;
}

static void connected(struct shard *sh, struct peer_stream *p)
{
    static const struct io_stream_handler handler = {on_waiting};
    p->io.handler = &handler;
    p->state = PEER_WAITING;
    p->id = draw_id(sh, p->relay);
    timer_clear(&sh->sessions.timers, &p->timer);
    p->timer.due = on_waited;
    timer_set(&sh->sessions.timers, &p->timer, sh->time.now + JOIN_NS);
    tell(sh, p, PEER_CONNECTED);
}

/* ---------------------------------------------------------------------------------- connecting */

static void on_failure_due(struct timers *t, struct timer *timer)
{
    tell(shard_of(t), container_of(timer, struct peer_stream, timer), PEER_CONNECTED);
}

static void count_failure(struct shard *sh, int err)
{
    count(sh, err == ECONNREFUSED ? CTR_peer_connects_refused
              : err == ETIMEDOUT  ? CTR_peer_connects_late
                                  : CTR_peer_connects_failed);
}

static void failed(struct shard *sh, struct peer_stream *p, int err)
{
    uint16_t jitter;
    shard_random(sh, &jitter, sizeof(jitter));
    if (p->io.fd >= 0) {
        io_stream_remove(sh->io, &p->io);
        close(p->io.fd);
    }
    p->io.fd = -1;
    p->err = err;
    p->state = PEER_FAILED;
    p->timer.due = on_failure_due;
    timer_clear(&sh->sessions.timers, &p->timer);
    timer_set(&sh->sessions.timers, &p->timer,
              MAX(p->since + FAILURE_NS + FAILURE_NS * jitter / UINT16_MAX, sh->time.now));
    count_failure(sh, err);
}

static void on_connect_due(struct timers *t, struct timer *timer)
{
    failed(shard_of(t), container_of(timer, struct peer_stream, timer), ETIMEDOUT);
}

static void on_connecting(void *ctx, struct io_stream *io, bool ended)
{
    struct peer_stream *p = container_of(io, struct peer_stream, io);
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss), err_len = sizeof(int);
    int err = 0;
    (void)ended;
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &err, &err_len) != 0)
        err = errno;
    if (err)
        failed(ctx, p, err);
    else if (getpeername(io->fd, (struct sockaddr *)&ss, &len) == 0) {
        connected(ctx, p);
        count(ctx, CTR_peer_connects);
    }
}

static void start_connecting(struct shard *sh, struct peer_stream *p)
{
    static const struct io_stream_handler handler = {on_connecting};
    struct addr local = local_of(p->relay), bound = p->peer;
    const struct pool *pool =
        sh->policy->renames ? policy_stream_pool_at(sh->policy, &bound) : NULL;
    if (pool) { /* another of our clients, by the name that clients know (1:1 NAT) */
        bound = pool->local;
        bound.port = p->peer.port;
    }
    p->since = sh->time.now;
    p->state = PEER_CONNECTING;
    p->io.handler = &handler;
    p->timer.due = on_connect_due;
    int fd = socket_connect_relayed(&local, &bound);
    int err = fd < 0 ? -fd : 0;
    if (!err) {
        p->io.fd = fd;
        err = -io_stream_add(sh->io, &p->io);
        if (err) {
            close(fd);
            p->io.fd = -1;
        }
    }
    if (err)
        failed(sh, p, err);
    else
        timer_set(&sh->sessions.timers, &p->timer, sh->time.now + CONNECT_NS);
}

/* May the session have a connection with that peer? */
static enum ctl_status check(struct shard *sh, const struct session *s, const struct addr *peer,
                             char why_not[POLICY_TEXT_MAX])
{
    if (!s || !s->tcp || !session_alive(s, sh->time.now))
        return CTL_GONE;
    if (s->tcp->family != peer->family)
        return CTL_FAMILY;
    struct addr self = local_of(s->tcp);
    enum reach reach = policy_reach(sh->policy, peer, why_not);
    if (reach == REACH_NONE)
        return CTL_FORBIDDEN;
    if (reach != REACH_ALL && !policy_allows_stream(sh->policy, reach, peer, &self)) {
        policy_why_not_port(sh->policy, reach, peer, why_not);
        return CTL_FORBIDDEN;
    }
    return peer_stream_with(s->tcp, peer) ? CTL_CONFLICT : CTL_OK;
}

void peer_tcp_connect(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_connect *m = &f->u.connect;
    char why_not[POLICY_TEXT_MAX] = "";
    struct session *s = session_by_id(&sh->sessions, m->session);
    enum ctl_status status = check(sh, s, &m->peer, why_not);
    struct peer_stream *p =
        status == CTL_OK ? peer_stream_create(&sh->tcp, s->tcp, &m->peer) : NULL;
    if (p) {
        p->judged = sh->policy_number;
        start_connecting(sh, p);
        return;
    }
    struct ctl_frame out = {.code = CTL_CONNECTED,
                            .u.connected = {.session = m->session,
                                            .status = status ? status : CTL_FULL,
                                            .peer = m->peer,
                                            .detail = ctl_bytes_of(why_not, strlen(why_not))}};
    post_frame(sh, &out);
}

/* ----------------------------------------------------------------------------------- accepting */

/* Another client's relayed address, as its own client knows it. */
static void name_as_advertised(const struct shard *sh, struct addr *from)
{
    const struct pool *pool = sh->policy->renames ? policy_stream_pool_at(sh->policy, from) : NULL;
    uint16_t port = from->port;
    if (!pool)
        return;
    *from = pool->advertised;
    from->port = port;
}

/* RFC 6062 5.3: without a permission it is closed at once. */
static bool is_welcome(struct shard *sh, const struct tcp_relay *r, const struct addr *peer)
{
    struct permission *perm =
        judge_used(sh, permission_find(&sh->sessions, r->session, peer, sh->time.now));
    struct addr self = local_of(r);
    if (!perm) {
        count(sh, CTR_peer_accepts_no_permission);
        return false;
    }
    if (perm->reach == REACH_ALL ||
        policy_allows_stream(sh->policy, (enum reach)perm->reach, peer, &self))
        return true;
    count(sh, CTR_peer_accepts_forbidden);
    return false;
}

static bool take(struct shard *sh, struct tcp_relay *r, int fd, const struct addr *peer)
{
    struct peer_stream *p = peer_stream_create(&sh->tcp, r, peer);
    if (!p) {
        count(sh, CTR_peer_accepts_full);
        return false;
    }
    p->io.fd = fd;
    p->since = sh->time.now;
    p->judged = sh->policy_number;
    p->incoming = true;
    if (io_stream_add(sh->io, &p->io) != 0) {
        peer_stream_free(&sh->tcp, &sh->streams.cells, p);
        count(sh, CTR_peer_accepts_full);
        return false;
    }
    count(sh, CTR_peer_accepts);
    connected(sh, p);
    return true;
}

/* False when nobody waits to be accepted. Without a free descriptor a peer goes on waiting: the
 * kernel tells of it again when the next one comes. */
static bool accept_one(struct shard *sh, struct tcp_relay *r)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr peer;
    int fd = accept4(r->io.fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return errno == ECONNABORTED || errno == EINTR;
    if (addr_from_sockaddr(&peer, (struct sockaddr *)&ss, len)) {
        name_as_advertised(sh, &peer);
        if (is_welcome(sh, r, &peer) && take(sh, r, fd, &peer))
            return true;
    }
    close(fd);
    return true;
}

static void on_accept(void *ctx, struct io_stream *io, bool ended)
{
    struct shard *sh = ctx;
    struct tcp_relay *r = container_of(io, struct tcp_relay, io);
    (void)ended;
    for (int i = 0; i < ACCEPTS; i++)
        if (!accept_one(sh, r))
            return;
    io_stream_again(sh->io, io);
}

/* -------------------------------------------------------------------------- the relayed address */

bool peer_tcp_open(struct shard *sh, struct session *s, const struct port *port, uint64_t deadline,
                   uint32_t connections_max)
{
    static const struct io_stream_handler handler = {on_accept};
    struct tcp_relay *r = slab_alloc(&sh->tcp.relays);
    if (!r)
        return false;
    *r = (struct tcp_relay){.io = {.fd = port->fd, .handler = &handler},
                            .session = s,
                            .pool = port->pool,
                            .port = port->port,
                            .family = port->pool->local.family,
                            .deadline = deadline,
                            .max = connections_max};
    list_init(&r->peers);
    if (io_stream_add(sh->io, &r->io) != 0) {
        slab_free(&sh->tcp.relays, r);
        return false;
    }
    r->open = true;
    s->tcp = r;
    return true;
}

void peer_tcp_close(struct shard *sh, struct session *s, bool all)
{
    struct tcp_relay *r = s->tcp;
    if (!r->open)
        return;
    while (!list_empty(&r->peers)) {
        struct peer_stream *p = container_of(r->peers.next, struct peer_stream, in_relay);
        if (p->client) {
            joined_wind_up(sh, p, all);
        } else if (p->news == PEER_DISCONNECTED) {
            peer_stream_free(&sh->tcp, &sh->streams.cells, p);
        } else {
            peer_stream_detach(p);
            joined_drop(sh, p, PEER_TOLD);
        }
    }
    io_stream_remove(sh->io, &r->io);
    close(r->io.fd);
    r->open = false;
}

struct port peer_tcp_release(struct shard *sh, struct session *s)
{
    struct port port = {.pool = s->tcp->pool, .port = s->tcp->port, .fd = -1};
    slab_free(&sh->tcp.relays, s->tcp);
    s->tcp = NULL;
    return port;
}

/* --------------------------------------------------------------------------------- one of them */

static struct peer_stream *find(struct shard *sh, uint64_t session, uint32_t connection)
{
    const struct session *s = session_by_id(&sh->sessions, session);
    return s && s->tcp && connection ? peer_stream_by_id(s->tcp, connection) : NULL;
}

struct peer_stream *peer_tcp_waiting(struct shard *sh, uint64_t session, uint32_t connection)
{
    struct peer_stream *p = find(sh, session, connection);
    return p && p->state == PEER_WAITING ? p : NULL;
}

void peer_tcp_disconnect(struct shard *sh, const struct ctl_frame *f)
{
    struct peer_stream *p = find(sh, f->u.disconnect.session, f->u.disconnect.connection);
    if (p)
        joined_drop(sh, p, PEER_TOLD);
}

size_t peer_tcp_rows(const struct session *s, uint8_t *out, size_t cap)
{
    struct list *at;
    size_t n = 0;
    if (!s->tcp)
        return 0;
    list_for_each (at, &s->tcp->peers) {
        const struct peer_stream *p = container_of(at, struct peer_stream, in_relay);
        if (!p->id || p->news == PEER_DISCONNECTED || cap - n < PEER_ROW)
            continue;
        store32(out + n, p->id);
        store64(out + n + 4, p->client_bytes);
        store64(out + n + 12, p->peer_bytes);
        n += PEER_ROW;
    }
    return n;
}
