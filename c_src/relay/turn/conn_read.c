#include "conn_read.h"

#include <errno.h>

#include "conn_send.h"
#include "count.h"
#include "frame.h"
#include "http.h"
#include "input.h"

enum { READS = 2 }; /* of a connection in a turn: then others have theirs */

_Static_assert(2 * (FRAME_MAX + STREAM_NET) < STREAM_READS,
               "part of a frame and all that may come behind it fit the memory");

/* ------------------------------------------------------------------------------------- framing */

/* A client cannot have a channel before its first request: what looks like ChannelData is something
 * else then, HTTP for example (threat X93). */
static bool is_foreign(const struct stream *s, const uint8_t *data, size_t len)
{
    return UNLIKELY(!s->spoken) && len && stun_demux(data[0]) == DEMUX_CHANNEL;
}

/* Whole frames from the beginning of data on; *used bytes of them. */
static enum conn_read take_frames(struct shard *sh, struct stream *s, uint8_t *data, size_t len,
                                  size_t *used)
{
    struct frame f;
    for (*used = 0; !s->held; *used += f.size) {
        uint8_t *at = data + *used;
        size_t left = len - *used;
        if (is_foreign(s, at, left))
            return http_begins(at, left) ? CONN_READ_HTTP : CONN_READ_BAD;
        switch (frame_next(at, left, sh->config.channel_max, &f)) {
        case FRAME_MORE:
            return CONN_READ_ALL;
        case FRAME_BAD:
            return CONN_READ_BAD;
        case FRAME_WHOLE:
            break;
        }
        s->spoken = true;
        s->heard = sh->time.now;
        count(sh, CTR_client_packets);
        count_n(sh, CTR_client_bytes, f.len);
        input_message(sh, s->end.listener, &s->flow, at, f.len);
    }
    s->unframed = *used < len; /* it is held behind the last one */
    return CONN_READ_ALL;
}

/* What is joined has no frames (RFC 6062 5.4): all of it is its peer's. */
static enum conn_read take_bytes(struct shard *sh, struct stream *s, uint8_t *data, size_t len,
                                 size_t *used)
{
    if (s->state != STREAM_JOINED)
        return take_frames(sh, s, data, len, used);
    *used = len;
    return !len || s->take(sh, s, data, len) ? CONN_READ_ALL : CONN_READ_BROKEN;
}

/* Is there memory for a read, whatever comes? It is freed by the next wait. */
static bool has_room(struct shard *sh, const struct stream *s)
{
    struct streams *t = &sh->streams;
    if (t->read_settled != sh->io->settled) {
        t->read_settled = sh->io->settled;
        t->read_used = 0;
    }
    return s->in.len + STREAM_NET <= STREAM_READS - t->read_used;
}

/* Memory that may be sent from, with what is left of a frame at its beginning. */
static uint8_t *room_behind(struct shard *sh, const struct stream *s)
{
    uint8_t *room = sh->streams.read + sh->streams.read_used;
    chain_copy(&s->in, room);
    return room;
}

/* len bytes more lie behind what was left of a frame. */
static enum conn_read take_plain(struct shard *sh, struct stream *s, uint8_t *data, size_t len)
{
    size_t used, all = s->in.len + len;
    if (s->state != STREAM_JOINED) /* nothing of that is sent from there later */
        sh->streams.read_used += all;
    enum conn_read r = take_bytes(sh, s, data, all, &used);
    chain_drop(&sh->streams.cells, &s->in, s->in.len);
    if (r != CONN_READ_ALL)
        return r;
    if (!chain_add(&sh->streams.cells, &s->in, data + used, all - used))
        return CONN_READ_BROKEN;
    if (used)
        s->begun = 0;
    return r;
}

/* ------------------------------------------------------------------------------------- records */

/* How many bytes of whole records there are. A record longer than any may be counts as whole, so
 * that OpenSSL gets it and refuses it. */
static size_t whole_records(const uint8_t *data, size_t len)
{
    size_t at = 0, record;
    while ((record = tls_record(data + at, len - at)) != 0) {
        if (record > TLS_RECORD_MAX)
            return len;
        if (record > len - at)
            break;
        at += record;
    }
    return at;
}

/* Whole records, decrypted behind what is left of a frame. */
static enum conn_read take_whole(struct shard *sh, struct stream *s, const uint8_t *data,
                                 size_t len)
{
    struct bytes in = bytes_of(data, len);
    struct wbytes out = wbytes_of(sh->streams.plain, STREAM_SEND);
    uint8_t *plain = room_behind(sh, s);
    size_t got = 0, n;
    enum tls_result result;
    while ((result = tls_read(s->tls, &in, plain + s->in.len + got, len - got, &n, &out)) == TLS_OK)
        got += n;
    if (wbytes_len(&out))
        conn_put_raw(sh, s, sh->streams.plain, wbytes_len(&out));
    enum conn_read r = take_plain(sh, s, plain, got);
    if (r != CONN_READ_ALL || result == TLS_MORE)
        return r;
    return result == TLS_CLOSED ? CONN_READ_ENDED : CONN_READ_BROKEN;
}

/* len bytes lie in the buffer for the network's. */
static enum conn_read take_records(struct shard *sh, struct stream *s, size_t len)
{
    const uint8_t *net = sh->streams.net;
    size_t whole = whole_records(net, len);
    enum conn_read r = whole ? take_whole(sh, s, net, whole) : CONN_READ_ALL;
    if (r == CONN_READ_ALL && !chain_add(&sh->streams.cells, &s->raw, net + whole, len - whole))
        r = CONN_READ_BROKEN;
    if (whole && !s->in.len)
        s->begun = 0;
    return r;
}

/* ------------------------------------------------------------------------------------- reading */

static enum conn_read end_of_read(ssize_t n)
{
    if (n == 0)
        return CONN_READ_ENDED;
    return errno == EAGAIN || errno == EINTR ? CONN_READ_ALL : CONN_READ_BROKEN;
}

/* One read; *n as recv. */
static enum conn_read read_plain(struct shard *sh, struct stream *s, ssize_t *n)
{
    uint8_t *data = room_behind(sh, s);
    *n = recv(s->io.fd, data + s->in.len, STREAM_READ, MSG_DONTWAIT);
    return *n > 0 ? take_plain(sh, s, data, (size_t)*n) : end_of_read(*n);
}

/* Likewise. What is left of before may be whole, where there was no room for it then. */
static enum conn_read read_records(struct shard *sh, struct stream *s, ssize_t *n)
{
    uint8_t *net = sh->streams.net;
    size_t before = s->raw.len;
    chain_copy(&s->raw, net);
    *n = recv(s->io.fd, net + before, STREAM_READ, MSG_DONTWAIT);
    enum conn_read end = *n > 0 ? CONN_READ_ALL : end_of_read(*n);
    if (*n <= 0 && !whole_records(net, before))
        return end;
    chain_drop(&sh->streams.cells, &s->raw, s->raw.len);
    enum conn_read r = take_records(sh, s, before + (size_t)MAX(*n, 0));
    return r == CONN_READ_ALL ? end : r;
}

/* Notes since when part of a frame or record has been waiting for the rest. */
static void note_part(struct shard *sh, struct stream *s)
{
    if (!s->in.len && !s->raw.len)
        s->begun = 0;
    else if (!s->begun)
        s->begun = sh->time.now;
}

/* Takes what was read of a connection that was held meanwhile. */
static enum conn_read take_held(struct shard *sh, struct stream *s)
{
    s->unframed = false;
    enum conn_read r = take_plain(sh, s, room_behind(sh, s), 0);
    note_part(sh, s);
    return r;
}

enum conn_read conn_read(struct shard *sh, struct stream *s, bool ended)
{
    for (int i = 0; i < READS; i++) {
        ssize_t n;
        if (s->held)
            return CONN_READ_ALL;
        if (!has_room(sh, s))
            return CONN_READ_MORE;
        if (s->unframed) {
            enum conn_read held = take_held(sh, s);
            if (held != CONN_READ_ALL)
                return held;
            continue;
        }
        enum conn_read r = s->tls ? read_records(sh, s, &n) : read_plain(sh, s, &n);
        note_part(sh, s);
        if (r != CONN_READ_ALL || n <= 0 || (n < STREAM_READ && !ended))
            return r;
    }
    return CONN_READ_MORE;
}

enum conn_read conn_feed(struct shard *sh, struct stream *s, const uint8_t *data, size_t len)
{
    if (!chain_add(&sh->streams.cells, &s->raw, data, len))
        return CONN_READ_BROKEN;
    note_part(sh, s);
    return len ? CONN_READ_MORE : CONN_READ_ALL;
}
