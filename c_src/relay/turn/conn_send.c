#include "conn_send.h"

#include <string.h>
#include <sys/socket.h>

#include "count.h"
#include "frame.h"
#include "outflow.h"
#include "sockopt.h"
#include "unsent.h"

enum {
    STEP = 4096, /* bytes that are begun at a time while the path is slow: what is begun cannot be
                    dropped any more */
    ANSWERS_MAX = 64 * 1024, /* bytes of answers that may wait for who does not read */
};

/* So long what the kernel says of a path is believed. */
#define LIMIT_NS (50 * NS_PER_MS)

/* ------------------------------------------------------------------------------------- queueing */

/* Data indications are media as ChannelData is; whatever else there is, is an answer. */
static enum queue_kind kind_of(const uint8_t *start, size_t len)
{
    struct frame_media media;
    return frame_carries(start, len, &media) ? QUEUE_MEDIA : QUEUE_ANSWER;
}

/* Media that was queued and does not go. */
static void unqueued(struct shard *sh, const struct stream *s, enum counter reason,
                     const struct queue_dropped *d)
{
    if (!d->n)
        return;
    count_back(sh, CTR_client_sent_packets, d->n);
    count_back(sh, CTR_client_sent_bytes, d->bytes);
    unsent_media(sh, &s->flow, reason, d->n, d->payload);
}

static uint64_t queue_ns(const struct shard *sh)
{
    return atomic_load_explicit(&sh->config.limits->streams.queue_ns, memory_order_relaxed);
}

/* So many bytes of media may wait: what the path takes in the time they may wait, and half as much
 * again; but STREAM_QUEUE_MAX at most, for a path may be a loopback. */
static uint32_t limit_of(struct shard *sh, struct stream *s)
{
    if (s->limit && sh->time.now < s->limit_at + LIMIT_NS)
        return s->limit;
    s->limit_at = sh->time.now;
    uint64_t bytes = sockopt_delivery_rate(s->io.fd) / 1000 * (queue_ns(sh) / NS_PER_MS) * 3 / 2;
    s->limit = (uint32_t)MAX(MIN(bytes, (uint64_t)STREAM_QUEUE_MAX), (uint64_t)STREAM_QUEUE_MIN);
    return s->limit;
}

static void trim(struct shard *sh, struct stream *s)
{
    uint64_t age = queue_ns(sh);
    uint64_t oldest = sh->time.now > age ? sh->time.now - age : 0;
    uint32_t max = s->queue.bytes > STREAM_QUEUE_MIN ? limit_of(sh, s) : STREAM_QUEUE_MIN;
    struct queue_drops drops = queue_trim(&sh->streams.cells, &s->queue, oldest, max);
    unqueued(sh, s, CTR_queue_late, &drops.late);
    unqueued(sh, s, CTR_queue_full, &drops.full);
}

void conn_forsake(struct shard *sh, const struct stream *s)
{
    struct queue_dropped left = queue_media(&s->queue);
    unqueued(sh, s, CTR_send_failed, &left);
}

void conn_put(struct shard *sh, struct stream *s, const uint8_t *head, size_t head_len,
              const uint8_t *data, size_t len)
{
    const uint8_t *start = head_len ? head : data;
    size_t start_len = head_len ? head_len : len;
    enum queue_kind kind = kind_of(start, start_len);
    if (UNLIKELY(kind == QUEUE_MEDIA && !s->answered)) {
        /* Chromium closes a connection where media comes before the first answer. */
        unsent_message(sh, &s->flow, CTR_media_first, start, start_len);
        return;
    }
    if (UNLIKELY(!queue_put(&sh->streams.cells, &s->queue, kind, sh->time.now, head, head_len, data,
                            len))) {
        unsent_message(sh, &s->flow, CTR_queue_full, start, start_len);
        s->stuck = s->stuck || kind == QUEUE_ANSWER;
    } else {
        s->answered = s->answered || kind == QUEUE_ANSWER;
        count(sh, CTR_client_sent_packets);
        count_n(sh, CTR_client_sent_bytes, head_len + len);
    }
    if (s->blocked)
        trim(sh, s);
    conn_touch(sh, s);
}

void conn_put_words(struct shard *sh, struct stream *s, const char *words)
{
    if (!queue_put(&sh->streams.cells, &s->queue, QUEUE_ANSWER, sh->time.now, NULL, 0, words,
                   strlen(words)))
        s->stuck = true;
    conn_touch(sh, s);
}

void conn_put_raw(struct shard *sh, struct stream *s, const uint8_t *data, size_t len)
{
    s->stuck = s->stuck || !chain_add(&sh->streams.cells, &s->out, data, len);
    conn_touch(sh, s);
}

/* -------------------------------------------------------------------------------------- sending */

static bool send_rest(struct shard *sh, struct stream *s)
{
    return s->blocked || outflow_rest(&sh->streams.cells, &s->out, s->io.fd, &s->blocked);
}

/* In records, where it has them. The kernel takes what it can, the rest waits. */
static bool send_now(struct shard *sh, struct stream *s, const uint8_t *data, size_t len)
{
    struct streams *t = &sh->streams;
    if (s->tls) {
        struct wbytes out = wbytes_of(t->net, STREAM_NET);
        if (!tls_write(s->tls, data, len, &out))
            return false;
        data = t->net;
        len = wbytes_len(&out);
    }
    return outflow(&t->cells, &s->out, s->io.fd, &s->blocked, data, len);
}

/* Some of what waits: all of it where the path takes it. */
static bool send_some(struct shard *sh, struct stream *s)
{
    struct streams *t = &sh->streams;
    size_t len = queue_take(&t->cells, &s->queue, t->plain, s->congested ? STEP : STREAM_SEND);
    return send_now(sh, s, t->plain, len);
}

bool conn_pass(struct shard *sh, struct stream *s, const uint8_t *data, size_t len)
{
    return send_now(sh, s, data, len);
}

static void note_age(struct shard *sh, const struct stream *s)
{
    uint64_t age = sh->time.now - queue_since(&s->queue, sh->time.now);
    if (UNLIKELY(age > atomic_load_explicit(&sh->streams.age_max, memory_order_relaxed)))
        atomic_store_explicit(&sh->streams.age_max, age, memory_order_relaxed);
}

bool conn_flush(struct shard *sh, struct stream *s)
{
    if (s->stuck || s->cut || !send_rest(sh, s))
        return false;
    s->congested = s->congested || s->blocked;
    if (s->queue.first && s->congested)
        trim(sh, s);
    while (s->queue.first && !s->blocked) {
        note_age(sh, s);
        if (!send_some(sh, s))
            return false;
        s->congested = s->congested || s->blocked;
    }
    s->congested = s->congested && !conn_is_flushed(s);
    s->stuck = s->stuck || s->queue.answers > ANSWERS_MAX;
    return !s->stuck;
}

/* -------------------------------------------------------------------------------------- the end */

/* So long what is left is tried to be sent. */
#define ENDING_NS (5 * NS_PER_S)

static void say_close_notify(struct shard *sh, struct stream *s)
{
    struct wbytes out = wbytes_of(sh->streams.net, STREAM_NET);
    if (s->tls)
        tls_close(s->tls, &out);
    if (wbytes_len(&out))
        conn_put_raw(sh, s, sh->streams.net, wbytes_len(&out));
}

bool conn_say_end(struct shard *sh, struct stream *s)
{
    if (!conn_is_flushed(s))
        return true;
    if (!s->said_end)
        say_close_notify(sh, s);
    s->said_end = true;
    if (!conn_flush(sh, s))
        return false;
    if (conn_is_flushed(s))
        shutdown(s->io.fd, SHUT_WR);
    return true;
}

void conn_wind_up(struct shard *sh, struct stream *s, bool heard_end)
{
    s->state = STREAM_ENDING;
    s->heard_end = heard_end;
    timer_clear(&sh->sessions.timers, &s->timer);
    timer_set(&sh->sessions.timers, &s->timer, sh->time.now + ENDING_NS);
    conn_touch(sh, s);
}

void conn_cut(struct shard *sh, struct stream *s)
{
    outflow_break_off(s->io.fd);
    s->cut = true;
    conn_wind_up(sh, s, true);
}
