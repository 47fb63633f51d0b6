#include "conn.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc.h"
#include "conn_read.h"
#include "conn_send.h"
#include "count.h"
#include "post.h"
#include "splice.h"

/* Every connection is looked at so often. */
#define LOOK_NS (5 * NS_PER_S)
/* The first whole message must be there by then, and so must the rest of a part. */
#define PART_NS (10 * NS_PER_S)
/* Without allocation one may be silent for so long. */
#define IDLE_NS (60 * NS_PER_S)
/* Who begins with that wants TLS (RFC 8446 5.1). */
enum { HANDSHAKE_RECORD = 22 };

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

/* The allocation that answers through it. Another connection may have had the same 5-tuple. */
static struct session *session_of(struct shard *sh, const struct stream *s)
{
    struct session *session = session_find(&sh->sessions, &s->flow);
    return session && session->flow.way.number == s->end.way.number ? session : NULL;
}

static void end_session(struct shard *sh, const struct stream *s)
{
    struct session *session = session_of(sh, s);
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

static void conn_close(struct shard *sh, struct stream *s)
{
    int fd = s->io.fd;
    end_session(sh, s);
    if (s->peer)
        splice_lost(sh, s);
    if (s->crowded)
        crowd_leave(crowd_of(sh), &s->flow.client);
    forget(sh, s);
    close(fd);
    count(sh, CTR_connections_closed);
}

/* No more is read. What waits is sent, and what is still asked of Erlang is answered. */
static void conn_end(struct shard *sh, struct stream *s, bool heard_end)
{
    end_session(sh, s);
    conn_wind_up(sh, s, heard_end);
}

/* One that is ending and has nothing left to send: its last words, and where the client has said
 * his, the end. Closing before would throw away what is still on its way to him. */
static void finish(struct shard *sh, struct stream *s)
{
    if (!conn_is_flushed(s) || s->end.holds)
        return;
    if (!conn_say_end(sh, s) || (conn_is_flushed(s) && s->heard_end))
        conn_close(sh, s);
}

/* What comes after the end is of no interest but for its own end. */
static void discard(struct shard *sh, struct stream *s)
{
    ssize_t n = recv(s->io.fd, sh->streams.net, STREAM_NET, MSG_DONTWAIT);
    if (n > 0)
        io_stream_again(sh->io, &s->io);
    else if (n == 0 || errno != EAGAIN)
        conn_close(sh, s);
}

void conn_flush_all(struct shard *sh)
{
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
    if ((now - s->heard > IDLE_NS || closing) && !session_of(sh, s)) {
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

static void count_failure(struct shard *sh, const struct handshake *h)
{
    static const enum counter counters[] = {
        [TLS_FAIL_NONE] = CTR_handshakes_broken,     [TLS_FAIL_NOT_TLS] = CTR_handshakes_broken,
        [TLS_FAIL_VERSION] = CTR_handshakes_version, [TLS_FAIL_CIPHER] = CTR_handshakes_cipher,
        [TLS_FAIL_ALPN] = CTR_handshakes_alpn,       [TLS_FAIL_REFUSED] = CTR_handshakes_refused,
        [TLS_FAIL_PROTOCOL] = CTR_handshakes_broken,
    };
    if (h->end == HANDSHAKE_LATE)
        count(sh, CTR_handshakes_late);
    else if (h->end == HANDSHAKE_GONE)
        count(sh, CTR_handshakes_left);
    else
        count(sh, counters[tls_failure(h->tls)]);
}

static void come_home(struct shard *sh, struct shaking *job)
{
    struct stream *s = job->stream;
    s->tls = job->handshake.tls;
    s->heard = sh->time.now;
    if (job->handshake.end != HANDSHAKE_DONE) {
        count_failure(sh, &job->handshake);
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

/* The first byte tells what it is to be. */
static bool begin(struct shard *sh, struct stream *s, bool ended)
{
    uint8_t first;
    ssize_t n = recv(s->io.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && !ended)
        return false;
    if (n <= 0) {
        conn_close(sh, s);
        return false;
    }
    if (first == HANDSHAKE_RECORD && s->end.listener->certs) {
        start_handshake(sh, s);
        return false;
    }
    if (s->flow.transport->secure == s->flow.transport) { /* nothing but TLS is taken here */
        count(sh, CTR_connections_bad);
        conn_close(sh, s);
        return false;
    }
    s->state = STREAM_OPEN;
    return true;
}

/* ------------------------------------------------------------------------------------- the start
 */

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
        splice_client_ready(sh, s, ended);
    else if (s->state == STREAM_ENDING && !s->heard_end)
        discard(sh, s);
}

/* One that had the same 5-tuple is dead, though we have not heard of it. */
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

void conn_open(struct shard *sh, struct listener *l, int fd, const struct addr *client,
               const struct addr *server)
{
    const struct flow f = {.transport = l->transport, .client = *client, .server = *server};
    bool welcome = crowd_enter(crowd_of(sh), client);
    close_former(sh, client, server);
    struct stream *s = welcome ? make(sh, l, fd, &f) : NULL;
    if (s) {
        timer_set(&sh->sessions.timers, &s->timer, sh->time.now + LOOK_NS);
        s->crowded = true;
        count(sh, CTR_connections);
        return;
    }
    if (welcome)
        crowd_leave(crowd_of(sh), client);
    count(sh, CTR_connections_refused);
    close(fd);
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

/* It is no longer here when the other worker hears of it: there its descriptor may be closed at
 * once. */
bool conn_hand_over(struct shard *sh, struct stream *s, struct mail_join *m)
{
    uint8_t *bytes = pack(sh, s, m);
    if (!bytes) {
        conn_close(sh, s);
        return false;
    }
    m->flow = (struct mail_flow){s->end.listener->id, s->flow.transport->kind, s->flow.client,
                                 s->flow.server};
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

void conn_join(struct shard *sh, struct stream *s, struct peer_stream *p)
{
    if (s->crowded)
        crowd_leave(crowd_of(sh), &s->flow.client);
    s->crowded = false;
    timer_clear(&sh->sessions.timers, &s->timer);
    s->begun = 0;
    splice_begin(sh, p, s);
}

void conn_leave(struct shard *sh, struct stream *s)
{
    conn_end(sh, s, false);
}
