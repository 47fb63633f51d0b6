#include "conn.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc.h"
#include "conn_begin.h"
#include "conn_read.h"
#include "conn_send.h"
#include "count.h"
#include "http.h"
#include "joined.h"
#include "post.h"
#include "shaken.h"
#include "web.h"

/* Every connection is looked at so often. */
#define LOOK_NS (5 * NS_PER_S)
/* The first whole message must be there by then, and so must the rest of a part. */
#define PART_NS (10 * NS_PER_S)
/* Without allocation one may be silent for so long. */
#define IDLE_NS (60 * NS_PER_S)
/* A handshake knows its connection. */
struct shaking {
    struct handshake handshake;
    struct stream *stream;
};

_Static_assert(offsetof(struct shaking, handshake) == 0, "who frees the one frees the other");

/* ------------------------------------------------------------------------------------- the end */

static struct crowd *crowd_of(struct shard *sh)
{
    return &sh->config.limits->streams.crowd;
}

static void end_session(struct shard *sh, const struct stream *s)
{
    struct session *session = session_by_way(&sh->sessions, &s->flow);
    if (session)
        alloc_end(sh, session, GONE_CLOSED);
}

/* Of this worker's tables; the descriptor stays. */
static void forget(struct shard *sh, struct stream *s)
{
    way_close(&sh->ways, &s->end);
    way_release(&sh->ways, s->end.listener->end.way);
    timer_clear(&sh->sessions.timers, &s->timer);
    if (s->state != STREAM_SHAKING)
        io_stream_remove(sh->io, &s->io);
    stream_free(&sh->streams, s);
}

/* All but the descriptor, which is returned. */
static int detach(struct shard *sh, struct stream *s)
{
    int fd = s->io.fd;
    conn_forsake(sh, s);
    end_session(sh, s);
    if (s->peer)
        joined_lost(sh, s);
    if (s->crowded)
        crowd_leave(crowd_of(sh), &s->flow.client);
    forget(sh, s);
    return fd;
}

static void conn_close(struct shard *sh, struct stream *s)
{
    close(detach(sh, s));
    count(sh, CTR_connections_closed);
}

/* No more is read. What waits is sent, and what is still asked of Erlang is answered. */
static void conn_end(struct shard *sh, struct stream *s, bool heard_end)
{
    end_session(sh, s);
    conn_wind_up(sh, s, heard_end);
}

/* A connection that is ending and has nothing left to send: our direction is shut, and it is closed
 * once the client has shut its own. Closing earlier would discard what it has not received yet. */
static void finish(struct shard *sh, struct stream *s)
{
    if (!conn_is_flushed(s) || s->end.holds)
        return;
    if (!conn_say_end(sh, s) || (conn_is_flushed(s) && s->heard_end))
        conn_close(sh, s);
}

/* Of a connection that is ending, reads and drops what comes, to see its end. */
static void discard(struct shard *sh, struct stream *s)
{
    ssize_t n = recv(s->io.fd, sh->streams.net, STREAM_NET, MSG_DONTWAIT);
    if (n > 0)
        io_stream_again(sh->io, &s->io);
    else if (n == 0 || errno != EAGAIN)
        conn_close(sh, s);
}

/* While another program is to take over, what goes out waits for it as what comes in does. */
void conn_flush_all(struct shard *sh)
{
    if (UNLIKELY(sh->io->held))
        return;
    while (!list_empty(&sh->streams.dirty)) {
        struct stream *s = container_of(sh->streams.dirty.next, struct stream, dirty);
        list_del(&s->dirty);
        if (conn_flush(sh, s)) {
            if (s->state == STREAM_ENDING)
                finish(sh, s);
            continue;
        }
        count_n(sh, CTR_connections_stuck, s->stuck);
        conn_close(sh, s);
    }
}

/* --------------------------------------------------------------------------------------- timers */

static struct shard *shard_of(struct timers *t)
{
    return container_of(container_of(t, struct sessions, timers), struct shard, sessions);
}

/* Slow beginnings and silence (threat X90). True when it is ended or closed. */
static bool too_slow(struct shard *sh, struct stream *s)
{
    uint64_t now = sh->time.now;
    if ((!s->spoken && now - s->heard > PART_NS) || (s->begun && now - s->begun > PART_NS)) {
        count(sh, CTR_connections_slow);
        conn_close(sh, s);
        return true;
    }
    bool closing = !s->end.listener->open;
    if ((now - s->heard > IDLE_NS || closing) && !session_by_way(&sh->sessions, &s->flow)) {
        count(sh, CTR_connections_idle);
        conn_end(sh, s, false);
        return true;
    }
    return false;
}

static void on_due(struct timers *t, struct timer *timer)
{
    struct shard *sh = shard_of(t);
    struct stream *s = container_of(timer, struct stream, timer);
    if (s->state == STREAM_ENDING)
        conn_close(sh, s);
    else if (!too_slow(sh, s))
        timer_set(t, &s->timer, sh->time.now + LOOK_NS);
}

/* -------------------------------------------------------------------------------------- reading */

/* A browser, perhaps: the answer says what this port is for, and the connection is closed. */
static void answer_http(struct shard *sh, struct stream *s)
{
    count(sh, CTR_connections_http);
    conn_put_words(sh, s, http_answer());
    conn_end(sh, s, false);
}

static void after_reading(struct shard *sh, struct stream *s, enum conn_read r)
{
    switch (r) {
    case CONN_READ_ALL:
        break;
    case CONN_READ_MORE:
        io_stream_again(sh->io, &s->io);
        break;
    case CONN_READ_ENDED:
        conn_end(sh, s, true);
        break;
    case CONN_READ_BAD:
        count(sh, CTR_connections_bad);
        conn_close(sh, s);
        break;
    case CONN_READ_HTTP:
        answer_http(sh, s);
        break;
    case CONN_READ_BROKEN:
        conn_close(sh, s);
        break;
    }
}

/* --------------------------------------------------------------------------------- the handshake
 */

static void start_handshake(struct shard *sh, struct stream *s)
{
    struct shaking *job = calloc(1, sizeof(*job));
    if (!job) {
        conn_close(sh, s);
        return;
    }
    io_stream_remove(sh->io, &s->io);
    timer_clear(&sh->sessions.timers, &s->timer);
    s->state = STREAM_SHAKING;
    s->flow.transport = s->flow.transport->secure;
    job->stream = s;
    job->handshake = (struct handshake){.home = &sh->streams.home, .fd = s->io.fd};
    if (handshakes_begin(sh->config.limits->streams.handshakes, &job->handshake,
                         s->end.listener->certs, sh->time.wall_s))
        return;
    free(job);
    count(sh, CTR_handshakes_many);
    conn_close(sh, s);
}

static void come_home(struct shard *sh, struct shaking *job)
{
    struct stream *s = job->stream;
    s->tls = job->handshake.tls;
    s->heard = sh->time.now;
    if (job->handshake.end != HANDSHAKE_DONE) {
        shaken_failed(sh, job->handshake.end, s->tls);
        conn_close(sh, s);
        return;
    }
    count(sh, CTR_handshakes);
    s->state = STREAM_OPEN;
    timer_set(&sh->sessions.timers, &s->timer, sh->time.now + LOOK_NS);
    if (io_stream_add(sh->io, &s->io) != 0)
        conn_close(sh, s);
    else
        after_reading(sh, s, conn_feed(sh, s, job->handshake.in.data, job->handshake.in.len));
}

void conn_arrivals(struct shard *sh)
{
    struct post *p = posts_take(&sh->streams.home.arrived);
    while (p) {
        struct shaking *job =
            container_of(container_of(p, struct handshake, post), struct shaking, handshake);
        p = p->next;
        come_home(sh, job);
        free(job->handshake.in.data);
        free(job);
    }
}

/* ------------------------------------------------------------------------------------- opening */

static void on_ready(void *ctx, struct io_stream *io, bool ended);

/* A connection that had the same 5-tuple must be dead, though we have not heard of its end. */
static void close_former(struct shard *sh, const struct addr *client, const struct addr *server)
{
    struct stream *s = stream_find(&sh->streams, client, server);
    if (s && s->state != STREAM_SHAKING)
        conn_close(sh, s);
}

static struct stream *make(struct shard *sh, struct listener *l, int fd, const struct flow *f)
{
    static const struct io_stream_handler handler = {on_ready};
    struct stream *s = stream_create(&sh->streams, fd, f);
    if (!s)
        return NULL;
    s->io.handler = &handler;
    s->timer.due = on_due;
    s->heard = sh->time.now;
    s->end.listener = l;
    if (io_stream_add(sh->io, &s->io) != 0) {
        stream_free(&sh->streams, s);
        return NULL;
    }
    way_open(&sh->ways, &s->end); /* there is one for each */
    way_hold(&sh->ways, l->end.way);
    s->flow.way = s->end.way;
    return s;
}

/* One that awaits the header of a proxy counts once its client is known. NULL when there are too
 * many. */
static struct stream *open_as(struct shard *sh, struct listener *l, int fd,
                              const struct addr *client, const struct addr *server,
                              bool awaits_header)
{
    const struct flow f = {.transport = l->transport, .client = *client, .server = *server};
    bool welcome = awaits_header || crowd_enter(crowd_of(sh), client);
    close_former(sh, client, server);
    struct stream *s = welcome ? make(sh, l, fd, &f) : NULL;
    if (s) {
        timer_set(&sh->sessions.timers, &s->timer, sh->time.now + LOOK_NS);
        s->awaits_header = awaits_header;
        s->crowded = !awaits_header;
    } else if (welcome && !awaits_header) {
        crowd_leave(crowd_of(sh), client);
    }
    return s;
}

void conn_open(struct shard *sh, struct listener *l, int fd, const struct addr *client,
               const struct addr *server)
{
    if (open_as(sh, l, fd, client, server, front_is_proxy(sh->front, client))) {
        count(sh, CTR_connections);
        return;
    }
    count(sh, CTR_connections_refused);
    close(fd);
}

/* Of a connection that was open in this worker or another until its header was read. */
static void refuse(struct shard *sh, int fd)
{
    count(sh, CTR_connections_refused);
    count(sh, CTR_connections_closed);
    close(fd);
}

void conn_told(struct shard *sh, const struct mail_conn *m)
{
    struct listener *l = shard_listener(sh, m->listener);
    if (!l || !open_as(sh, l, m->fd, &m->client, &m->server, false))
        refuse(sh, m->fd);
}

/* ------------------------------------------------------------------------------- the beginning */

/* Opens the connection of the client that the proxy's header names, in the worker that this
 * client's address belongs to, as if there were no proxy. */
static void open_anew(struct shard *sh, struct stream *s, const struct proxy_header *h)
{
    struct mail_conn m = {.listener = s->end.listener->id,
                          .client = h->announces ? h->client : s->flow.client,
                          .server = h->announces ? h->server : s->flow.server};
    unsigned home = socket_spread(&m.client, sh->config.workers);
    count_n(sh, CTR_proxied, h->announces);
    m.fd = detach(sh, s);
    if (home == sh->config.index)
        conn_told(sh, &m);
    else if (!post_letter(sh, home, MAIL_CONN, &m, sizeof(m), NULL, 0))
        refuse(sh, m.fd);
}

static void begin_header(struct shard *sh, struct stream *s, bool ended)
{
    struct proxy_header h;
    switch (conn_begin_header(sh, s, ended, &h)) {
    case CONN_BEGIN_STUN:
        open_anew(sh, s, &h);
        break;
    case CONN_BEGIN_WAIT:
        break;
    default:
        conn_close(sh, s);
    }
}

static void pass_on(struct shard *sh, struct stream *s, const struct addr *web)
{
    const struct flow f = s->flow;
    count(sh, CTR_connections_closed);
    web_pass(sh, detach(sh, s), &f.client, &f.server, web);
}

/* What has come first tells what it is to be. True when it may be read. */
static bool begin(struct shard *sh, struct stream *s, bool ended)
{
    const struct addr *web = NULL;
    if (s->awaits_header) {
        begin_header(sh, s, ended);
        return false;
    }
    switch (conn_begin(sh, s, ended, &web)) {
    case CONN_BEGIN_STUN:
        s->state = STREAM_OPEN;
        return true;
    case CONN_BEGIN_TLS:
        start_handshake(sh, s);
        break;
    case CONN_BEGIN_WEB:
        pass_on(sh, s, web);
        break;
    case CONN_BEGIN_HTTP:
        answer_http(sh, s);
        break;
    case CONN_BEGIN_WAIT:
        break;
    case CONN_BEGIN_BAD:
    case CONN_BEGIN_GONE:
        conn_close(sh, s);
        break;
    }
    return false;
}

static void on_ready(void *ctx, struct io_stream *io, bool ended)
{
    struct shard *sh = ctx;
    struct stream *s = container_of(io, struct stream, io);
    s->blocked = false;
    if (!conn_is_flushed(s))
        conn_touch(sh, s);
    if (s->state == STREAM_FRESH && !begin(sh, s, ended))
        return;
    if (s->state == STREAM_OPEN)
        after_reading(sh, s, conn_read(sh, s, ended));
    else if (s->state == STREAM_JOINED)
        joined_client_ready(sh, s, ended);
    else if (s->state == STREAM_ENDING && !s->heard_end)
        discard(sh, s);
}

void conn_kept(struct shard *sh, struct stream *s, bool kept)
{
    if (kept && s->crowded)
        crowd_leave(crowd_of(sh), &s->flow.client);
    else if (!kept && !s->crowded)
        crowd_return(crowd_of(sh), &s->flow.client);
    s->crowded = !kept;
    s->heard = sh->time.now;
}

/* ---------------------------------------------------------------------- to the worker of its peer
 */

enum { ANSWER_CAP = 4 * CELL_SIZE }; /* holds any answer that was promised */

/* All that goes along, and its lengths; NULL without memory, or where something else waits. */
static uint8_t *pack(struct shard *sh, struct stream *s, struct mail_join *m)
{
    uint8_t *bytes = malloc((size_t)s->raw.len + s->in.len + ANSWER_CAP);
    if (!bytes)
        return NULL;
    m->raw = s->raw.len;
    m->in = s->in.len;
    chain_copy(&s->raw, bytes);
    chain_copy(&s->in, bytes + m->raw);
    m->answer =
        (uint32_t)queue_take(&sh->streams.cells, &s->queue, bytes + m->raw + m->in, ANSWER_CAP);
    if (conn_is_flushed(s))
        return bytes;
    free(bytes);
    return NULL;
}

/* The connection is taken out of this worker before the other hears of it, for that one may close
 * its descriptor at once. */
bool conn_hand_over(struct shard *sh, struct stream *s, struct mail_join *m)
{
    uint8_t *bytes = pack(sh, s, m);
    if (!bytes) {
        conn_close(sh, s);
        return false;
    }
    m->flow = (struct mail_flow){.listener = s->end.listener->id,
                                 .transport = s->flow.transport->kind,
                                 .client = s->flow.client,
                                 .server = s->flow.server};
    m->fd = s->io.fd;
    m->tls = s->tls;
    if (s->crowded)
        crowd_leave(crowd_of(sh), &s->flow.client);
    s->tls = NULL;
    forget(sh, s);
    bool posted = post_letter(sh, (unsigned)(m->session >> 56), MAIL_JOIN, m, sizeof(*m), bytes,
                              m->raw + m->in + m->answer);
    free(bytes);
    if (!posted) {
        tls_free(m->tls);
        close(m->fd);
        count(sh, CTR_connections_closed);
    }
    return posted;
}

struct stream *conn_adopt(struct shard *sh, const struct mail_join *m, const uint8_t *bytes)
{
    struct listener *l = shard_listener(sh, m->flow.listener);
    struct flow f = {.client = m->flow.client, .server = m->flow.server};
    if (l)
        f.transport = m->tls ? l->transport->secure : l->transport;
    struct stream *s = l ? make(sh, l, m->fd, &f) : NULL;
    if (!s) {
        tls_free(m->tls);
        close(m->fd);
        count(sh, CTR_connections_closed);
        return NULL;
    }
    s->tls = m->tls;
    s->spoken = s->answered = true;
    s->state = STREAM_OPEN;
    if (!chain_add(&sh->streams.cells, &s->raw, bytes, m->raw) ||
        !chain_add(&sh->streams.cells, &s->in, bytes + m->raw, m->in)) {
        conn_close(sh, s);
        return NULL;
    }
    s->unframed = m->in > 0;
    return s;
}

bool conn_answer(struct shard *sh, struct stream *s, const uint8_t *packet, size_t len)
{
    conn_touch(sh, s);
    return queue_put(&sh->streams.cells, &s->queue, QUEUE_ANSWER, sh->time.now, NULL, 0, packet,
                     len);
}

/* It was counted before, so it is now, however many there are. */
struct stream *conn_resume(struct shard *sh, struct listener *l, int fd, const struct flow *f,
                           bool crowded, uint64_t heard)
{
    close_former(sh, &f->client, &f->server);
    struct stream *s = make(sh, l, fd, f);
    if (!s)
        return NULL;
    timer_set(&sh->sessions.timers, &s->timer, sh->time.now + LOOK_NS);
    s->heard = heard;
    s->crowded = crowded;
    if (crowded)
        crowd_return(crowd_of(sh), &f->client);
    return s;
}

void conn_join(struct shard *sh, struct stream *s, struct peer_stream *p)
{
    if (s->crowded)
        crowd_leave(crowd_of(sh), &s->flow.client);
    s->crowded = false;
    timer_clear(&sh->sessions.timers, &s->timer);
    s->begun = 0;
    joined_begin(sh, p, s);
}

void conn_leave(struct shard *sh, struct stream *s)
{
    conn_end(sh, s, false);
}
