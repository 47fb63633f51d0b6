#include "conn_left.h"

#include <stdlib.h>

#include "conn.h"
#include "count.h"
#include "frame.h"
#include "left.h"

/* As the field of WAITING says. */
enum what { WHAT_READ = 1, WHAT_FIRST = 2, WHAT_ANSWER = 3, WHAT_MEDIA = 4 };

enum { PIECE = FRAME_MAX + 3 }; /* of one WAITING: a frame, with its padding */

/* -------------------------------------------------------------------------------------- to go */

bool conn_left_goes(const struct stream *s)
{
    bool open = s->state == STREAM_OPEN || (s->state == STREAM_FRESH && !s->awaits_header);
    return open && !s->tls && !s->stuck && !s->cut;
}

static uint32_t ms_since(const struct shard *sh, uint64_t then)
{
    return (uint32_t)MIN((sh->time.now - then) / NS_PER_MS, (uint64_t)UINT32_MAX);
}

static void put_waiting(struct handed *h, enum what what, uint32_t age_ms, const uint8_t *bytes,
                        size_t len)
{
    handed_put(h, &(struct ctl_frame){.code = CTL_WAITING,
                                      .u.waiting = {.what = (uint8_t)what,
                                                    .age_ms = age_ms,
                                                    .bytes = ctl_bytes_of(bytes, len)}});
}

static void put_chain(struct handed *h, enum what what, const struct chain *chain)
{
    size_t at = chain->at;
    for (const struct cell *cell = chain->first; cell; cell = cell->next) {
        put_waiting(h, what, 0, cell->data + at, cell->len - at);
        at = 0;
    }
}

static void put_queue(const struct shard *sh, const struct queue *q, struct handed *h)
{
    uint8_t *piece = q->first ? malloc(PIECE) : NULL;
    const struct cell *at = q->first;
    struct queue_frame f;
    while (piece && at && queue_copy(&at, &f, piece, PIECE)) {
        enum what what = f.kind == QUEUE_MEDIA ? WHAT_MEDIA : WHAT_ANSWER;
        put_waiting(h, f.whole ? what : WHAT_FIRST, ms_since(sh, f.since), piece, f.len);
    }
    h->failed |= at != NULL;
    free(piece);
}

void conn_left_put(const struct shard *sh, const struct stream *s, struct handed *h)
{
    const struct ctl_socket m = {.kind = LEFT_CONNECTION,
                                 .worker = (uint16_t)sh->config.index,
                                 .listener = s->end.listener->id,
                                 .local = s->flow.server,
                                 .client = s->flow.client,
                                 .spoken = s->spoken,
                                 .answered = s->answered,
                                 .crowded = s->crowded,
                                 .silent_ms = ms_since(sh, s->heard)};
    handed_put_socket(h, &m, s->io.fd);
    put_chain(h, WHAT_READ, &s->in);
    put_chain(h, WHAT_FIRST, &s->out);
    put_queue(sh, &s->queue, h);
}

/* ---------------------------------------------------------------------------------- has come */

static uint64_t ago(const struct shard *sh, uint32_t ms)
{
    uint64_t ns = ms * NS_PER_MS;
    return sh->time.now > ns ? sh->time.now - ns : 0;
}

static bool take_waiting(struct shard *sh, struct stream *s, const struct ctl_waiting *m)
{
    struct cells *cells = &sh->streams.cells;
    enum queue_kind kind = m->what == WHAT_MEDIA ? QUEUE_MEDIA : QUEUE_ANSWER;
    switch (m->what) {
    case WHAT_READ:
        return chain_add(cells, &s->in, m->bytes.data, m->bytes.len);
    case WHAT_FIRST:
        return chain_add(cells, &s->out, m->bytes.data, m->bytes.len);
    case WHAT_ANSWER:
    case WHAT_MEDIA:
        return queue_put(cells, &s->queue, kind, ago(sh, m->age_ms), NULL, 0, m->bytes.data,
                         m->bytes.len);
    default:
        return false;
    }
}

static bool take_all(struct shard *sh, struct stream *s, const struct frames *waiting)
{
    struct ctl_bytes frame;
    struct ctl_frame f;
    size_t at = 0;
    while (frames_next(waiting->bytes, waiting->len, &at, &frame))
        if (ctl_decode(&f, frame.data, frame.len) != CTL_ERR_NONE ||
            !take_waiting(sh, s, &f.u.waiting))
            return false;
    return true;
}

/* As it was; the rest of a frame that had begun has as long as one that begins now. */
static void settle(struct shard *sh, struct stream *s, const struct ctl_socket *m)
{
    s->spoken = m->spoken != 0;
    s->answered = m->answered != 0;
    s->unframed = s->in.len > 0; /* it may have been held behind whole frames */
    s->begun = s->in.len ? sh->time.now : 0;
    s->state = s->spoken || s->in.len ? STREAM_OPEN : STREAM_FRESH;
    io_stream_again(sh->io, &s->io);
}

void conn_left_take(struct shard *sh, struct left_conn *c)
{
    const struct ctl_socket *m = &c->told;
    struct listener *l = shard_listener(sh, m->listener);
    struct flow f = {.client = m->client, .server = m->local};
    if (l)
        f.transport = l->transport;
    struct stream *s = l ? conn_resume(sh, l, c->fd, &f, m->crowded, ago(sh, m->silent_ms)) : NULL;
    if (s) {
        c->fd = -1;
        count(sh, CTR_connections);
        s->stuck = !take_all(sh, s, &c->waiting);
        settle(sh, s, m);
    }
    left_conn_end(c);
}
