#include "joined.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn_read.h"
#include "conn_send.h"
#include "count.h"
#include "judge.h"
#include "meter.h"
#include "outflow.h"

enum {
    READS = 2,       /* of a side in a turn: then others have theirs */
    LAST_READS = 16, /* of a client that has ended its allocation, a megabyte */
};

/* Bandwidth that was used up is there again after so long. */
#define PAUSE_NS (250 * NS_PER_MS)
/* So long what is left is tried to be sent. */
#define ENDING_NS (5 * NS_PER_S)

static struct shard *shard_of(struct timers *t)
{
    return container_of(container_of(t, struct sessions, timers), struct shard, sessions);
}

/* ------------------------------------------------------------------------------------- the end */

static void close_peer(struct shard *sh, struct peer_stream *p)
{
    timer_clear(&sh->sessions.timers, &p->timer);
    if (p->io.fd < 0)
        return;
    io_stream_remove(sh->io, &p->io);
    close(p->io.fd);
    p->io.fd = -1;
}

/* One that Erlang asked for and has not heard of is a failure now. */
static bool fails(struct peer_stream *p)
{
    if (p->incoming || p->news != PEER_CONNECTED)
        return false;
    p->id = 0;
    p->err = ECONNRESET;
    p->state = PEER_FAILED;
    return true;
}

/* Its end waits to be told, where its beginning was; then peer_tcp.c frees it. */
static void bury(struct shard *sh, struct peer_stream *p, enum peer_end why)
{
    close_peer(sh, p);
    chain_drop(&sh->streams.cells, &p->out, p->out.len);
    count_n(sh, CTR_peer_broken, why == PEER_BROKEN);
    count_n(sh, CTR_peer_unjoined, why == PEER_UNJOINED);
    count_n(sh, CTR_peer_disconnects, p->id != 0);
    if (p->relay && fails(p))
        return;
    if (!p->relay || !p->id || p->news == PEER_CONNECTED) {
        peer_stream_free(&sh->tcp, &sh->streams.cells, p);
        return;
    }
    p->news = PEER_DISCONNECTED;
    p->end = (uint8_t)why;
    list_add_tail(&sh->tcp.news, &p->in_news);
}

static void part(struct peer_stream *p)
{
    p->client->peer = NULL;
    p->client->take = NULL;
    p->client->held = false;
    p->client = NULL;
}

/* Something is broken: neither side may take what it has for the whole. */
static void break_off(struct shard *sh, struct peer_stream *p, enum peer_end why)
{
    struct stream *s = p->client;
    part(p);
    outflow_break_off(p->io.fd);
    bury(sh, p, why);
    conn_cut(sh, s);
}

void joined_drop(struct shard *sh, struct peer_stream *p, enum peer_end why)
{
    if (p->client)
        break_off(sh, p, why);
    else
        bury(sh, p, why);
}

void joined_lost(struct shard *sh, struct stream *s)
{
    struct peer_stream *p = s->peer;
    part(p);
    outflow_break_off(p->io.fd);
    bury(sh, p, PEER_BROKEN);
}

/* ----------------------------------------------------------------------------------- bandwidth */

static void on_pause_over(struct timers *t, struct timer *timer)
{
    struct peer_stream *p = container_of(timer, struct peer_stream, timer);
    struct shard *sh = shard_of(t);
    p->paused = false;
    io_stream_again(sh->io, &p->io);
    io_stream_again(sh->io, &p->client->io);
}

static void pause_both(struct shard *sh, struct peer_stream *p)
{
    p->paused = true;
    p->timer.due = on_pause_over;
    timer_set(&sh->sessions.timers, &p->timer, sh->time.now + PAUSE_NS);
}

/* What there is to read from fd, up to max, is paid for; records of TLS as they are. False, and
 * both sides wait, while it cannot be. */
static bool afford(struct shard *sh, struct peer_stream *p, enum direction d, int fd, int max)
{
    struct session *session = p->relay->session;
    int there = 0;
    if (!meter_limits(sh, session))
        return true;
    if (ioctl(fd, FIONREAD, &there) != 0 || there <= 0)
        return true;
    if (meter_take(sh, session, d, (uint32_t)MIN(there, max)))
        return true;
    pause_both(sh, p);
    return false;
}

/* ------------------------------------------------------------------------------------ the sides */

/* Is the peer still good, by the policy in force (threat X16)? */
static bool is_allowed(struct shard *sh, struct peer_stream *p)
{
    char why_not[POLICY_TEXT_MAX];
    const struct tcp_relay *r = p->relay;
    if (LIKELY(p->judged == sh->policy_number))
        return true;
    struct addr self = r->pool->local;
    self.port = r->port;
    enum reach reach = policy_reach(sh->policy, &p->peer, why_not);
    p->judged = sh->policy_number;
    return reach == REACH_ALL ||
           (reach != REACH_NONE && policy_allows_stream(sh->policy, reach, &p->peer, &self));
}

/* Bytes of the client. While the peer does not take all of them no more are read. */
static bool take(struct shard *sh, struct stream *s, const uint8_t *data, size_t len)
{
    struct peer_stream *p = s->peer;
    p->client_bytes += len;
    p->relay->session->client_bytes += len;
    count_n(sh, CTR_peer_stream_sent_bytes, len);
    bool ok = outflow(&sh->streams.cells, &p->out, p->io.fd, &p->blocked, data, len);
    s->held = p->out.len > 0;
    return ok;
}

/* False when the connection is broken. */
static bool from_client(struct shard *sh, struct stream *s, bool ended)
{
    if (s->heard_end || s->held || !afford(sh, s->peer, TO_PEER, s->io.fd, READS * STREAM_READ))
        return true;
    switch (conn_read(sh, s, ended)) {
    case CONN_READ_MORE:
        io_stream_again(sh->io, &s->io);
        return true;
    case CONN_READ_ENDED:
        s->heard_end = true;
        return true;
    case CONN_READ_ALL:
        return true;
    default:
        return false;
    }
}

/* One read; likewise. *more: there may be another. */
static bool pass_some(struct shard *sh, struct peer_stream *p, bool *more)
{
    struct streams *t = &sh->streams;
    ssize_t n = recv(p->io.fd, t->plain, STREAM_SEND, MSG_DONTWAIT);
    *more = n > 0;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0) {
        p->heard_end = true;
        return true;
    }
    p->peer_bytes += (uint64_t)n;
    p->relay->session->peer_bytes += (uint64_t)n;
    count_n(sh, CTR_peer_stream_bytes, (uint64_t)n);
    return conn_pass(sh, p->client, t->plain, (size_t)n);
}

static bool from_peer(struct shard *sh, struct peer_stream *p)
{
    struct stream *s = p->client;
    bool more = true;
    if (!conn_flush(sh, s))
        return false;
    for (int i = 0; more && !p->heard_end && conn_is_flushed(s); i++) {
        if (i == READS) {
            io_stream_again(sh->io, &p->io);
            return true;
        }
        if (!afford(sh, p, TO_CLIENT, p->io.fd, STREAM_SEND))
            return true;
        if (!pass_some(sh, p, &more))
            return false;
    }
    return true;
}

/* Who has said all has that told to the other, behind all of it. False when a connection is broken.
 */
static bool tell_ends(struct shard *sh, struct peer_stream *p)
{
    struct stream *s = p->client;
    if (s->heard_end && !p->out.len && !p->said_end) {
        p->said_end = true;
        shutdown(p->io.fd, SHUT_WR);
    }
    return !p->heard_end || conn_say_end(sh, s);
}

static bool is_over(const struct peer_stream *p)
{
    const struct stream *s = p->client;
    return s->heard_end && p->said_end && p->heard_end && s->said_end && conn_is_flushed(s);
}

/* Both have said all, and have all. */
static void finish(struct shard *sh, struct peer_stream *p)
{
    struct stream *s = p->client;
    part(p);
    bury(sh, p, PEER_DONE);
    conn_wind_up(sh, s, true);
}

/* Whatever can be moved is. */
static void turn(struct shard *sh, struct peer_stream *p, bool ended)
{
    struct stream *s = p->client;
    if (p->paused)
        return;
    if (!is_allowed(sh, p)) {
        break_off(sh, p, PEER_FORBIDDEN);
        return;
    }
    if (!outflow_rest(&sh->streams.cells, &p->out, p->io.fd, &p->blocked)) {
        break_off(sh, p, PEER_BROKEN);
        return;
    }
    s->held = p->out.len > 0;
    if (!from_client(sh, s, ended) || !from_peer(sh, p) || !tell_ends(sh, p))
        break_off(sh, p, PEER_BROKEN);
    else if (is_over(p))
        finish(sh, p);
}

void joined_client_ready(struct shard *sh, struct stream *s, bool ended)
{
    turn(sh, s->peer, ended);
}

/* ------------------------------------------------------------------------------- winding up */

/* No more is relayed; what comes is of no interest but for the end. */
static void discard(struct shard *sh, struct peer_stream *p)
{
    ssize_t n = recv(p->io.fd, sh->streams.plain, STREAM_SEND, MSG_DONTWAIT);
    if (n > 0)
        io_stream_again(sh->io, &p->io);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        bury(sh, p, PEER_DONE);
}

static void leave(struct shard *sh, struct peer_stream *p)
{
    if (!outflow_rest(&sh->streams.cells, &p->out, p->io.fd, &p->blocked)) {
        bury(sh, p, PEER_BROKEN);
        return;
    }
    if (p->out.len)
        return; /* until there is room */
    if (!p->said_end)
        shutdown(p->io.fd, SHUT_WR);
    p->said_end = true;
    discard(sh, p);
}

static void on_peer_ready(void *ctx, struct io_stream *io, bool ended)
{
    struct peer_stream *p = container_of(io, struct peer_stream, io);
    (void)ended;
    p->blocked = false;
    if (p->state == PEER_ENDING)
        leave(ctx, p);
    else
        turn(ctx, p, true); /* the client's end may have been told of while it was held */
}

static void on_ending_over(struct timers *t, struct timer *timer)
{
    bury(shard_of(t), container_of(timer, struct peer_stream, timer), PEER_DONE);
}

/* What has come by now. It waits for the peer, as far as that does not take it at once. */
static void read_last(struct shard *sh, struct peer_stream *p)
{
    struct stream *s = p->client;
    enum conn_read r = CONN_READ_MORE;
    for (int i = 0; i < LAST_READS && (r == CONN_READ_MORE || s->held); i++) {
        s->held = false;
        r = conn_read(sh, s, true);
    }
}

void joined_wind_up(struct shard *sh, struct peer_stream *p, bool all)
{
    struct stream *s = p->client;
    if (all && !s->heard_end && !p->paused && is_allowed(sh, p))
        read_last(sh, p);
    peer_stream_detach(p);
    part(p);
    conn_wind_up(sh, s, s->heard_end);
    list_del(&p->in_news);
    p->news = PEER_NO_NEWS;
    p->state = PEER_ENDING;
    p->timer.due = on_ending_over;
    timer_clear(&sh->sessions.timers, &p->timer);
    timer_set(&sh->sessions.timers, &p->timer, sh->time.now + ENDING_NS);
    io_stream_again(sh->io, &p->io);
}

/* ----------------------------------------------------------------------------------- the start */

void joined_begin(struct shard *sh, struct peer_stream *p, struct stream *s)
{
    static const struct io_stream_handler handler = {on_peer_ready};
    timer_clear(&sh->sessions.timers, &p->timer);
    p->io.handler = &handler;
    p->state = PEER_JOINED;
    p->client = s;
    s->peer = p;
    s->take = take;
    s->held = false;
    s->state = STREAM_JOINED;
    count(sh, CTR_peer_joins);
    io_stream_again(sh->io, &p->io);
    io_stream_again(sh->io, &s->io);
}
