#include "takeover.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "numbered.h"
#include "post_office.h"
#include "survival.h"

enum {
    FRAME_ROOM = 256 * 1024,
    PAGE = 16 * 1024, /* of STATE, with the session that begins within it */
};
#define CLAIM_NS (5 * NS_PER_MS * CLOCK_SPEED) /* between two looks whether the other has ended */

/* ----------------------------------------------------------------------------- what it was left */

static bool keep_frame(struct takeover *t, const uint8_t *frame, size_t len)
{
    t->kept = malloc(len);
    if (!t->kept)
        return false;
    memcpy(t->kept, frame, len);
    t->kept_len = len;
    return true;
}

/* Descriptors come in the order of these messages. */
static bool take_socket(struct takeover *t, const struct ctl_socket *m, struct parcel *p,
                        uint32_t *next)
{
    if (*next >= p->fd_count)
        return false;
    int fd = p->fds[*next];
    bool listens = m->kind == LEFT_DATAGRAMS || m->kind == LEFT_STREAMS;
    const struct left_socket s = {.kind = m->kind,
                                  .local = m->local,
                                  .worker = listens ? m->worker : 0,
                                  .past = {.lost = m->lost, .whole = m->whole != 0},
                                  .fd = fd};
    if (m->kind == LEFT_CONNECTION ? !left_conns_add(&t->conns, m, fd) : !left_add(&t->left, &s))
        return false;
    p->fds[(*next)++] = -1;
    return true;
}

static bool take_frame(struct takeover *t, const uint8_t *frame, size_t len, struct parcel *p,
                       uint32_t *next)
{
    struct ctl_frame f;
    if (ctl_decode(&f, frame, len) != CTL_ERR_NONE)
        return false;
    switch (f.code) {
    case CTL_LEFT:
        t->held_ns = f.u.left.held_ns;
        return true;
    case CTL_SOCKET:
        return take_socket(t, &f.u.socket, p, next);
    case CTL_KEPT:
        return keep_frame(t, frame, len);
    case CTL_WAITING:
        return left_conns_wait(&t->conns, frame, len);
    default:
        return frames_add(&t->frames, frame, len);
    }
}

static bool read_parcel(struct takeover *t, struct parcel *p)
{
    struct bytes b = bytes_of(p->bytes, p->len);
    uint8_t *frame = malloc(FRAME_ROOM);
    uint32_t next = 0;
    bool good = frame;
    while (good) {
        struct wbytes w = wbytes_of(frame, FRAME_ROOM);
        enum numbered what = numbered_get(&b, &w);
        if (what == NUMBERED_END)
            break;
        good = what == NUMBERED_UNKNOWN ||
               (what == NUMBERED_FRAME && take_frame(t, frame, wbytes_len(&w), p, &next));
    }
    free(frame);
    return good && t->kept;
}

/* One that cannot read it ends: the other one, which has all of it still, goes on. */
void takeover_open(struct control *c, struct tether_start *start)
{
    struct takeover *t = &c->takeover;
    t->from = start->from;
    t->lock = start->lock;
    if (t->from < 0)
        return;
    t->pending = true;
    if (!read_parcel(t, &start->parcel)) {
        log_error("what the relay program before has left cannot be read");
        pipe_end(&c->pipe, EXIT_PROTOCOL);
    }
    parcel_end(&start->parcel);
}

static void forget(struct takeover *t)
{
    if (t->kept)
        crypto_zero(t->kept, t->kept_len);
    free(t->kept);
    t->kept = NULL;
    frames_drop(&t->frames);
}

void takeover_close(struct control *c)
{
    struct takeover *t = &c->takeover;
    forget(t);
    left_end(&t->left);
    left_conns_end(&t->conns);
    if (t->from >= 0)
        close(t->from);
}

/* ------------------------------------------------------------------------------ what is asked */

void takeover_adopt(struct control *c, const struct ctl_frame *f)
{
    struct ctl_frame out;
    if (ctl_decode(&out, c->takeover.kept, c->takeover.kept_len) != CTL_ERR_NONE)
        return; /* it was made here */
    out.ref = f->ref;
    pipe_send(&c->pipe, &out);
}

/* Behind the frames from there on that fill a page, with the session that begins within it. */
static size_t page_end(const struct frames *f, size_t from)
{
    struct ctl_bytes frame;
    size_t to = from, next = from;
    while (frames_next(f->bytes, f->len, &next, &frame)) {
        if (to - from >= PAGE && frame.data[0] == CTL_ALLOC_CREATE)
            break;
        to = next;
    }
    return to;
}

/* All of them are told as the first worker's. */
void takeover_states(struct control *c, const struct ctl_frame *f)
{
    const struct frames *all = &c->takeover.frames;
    size_t from = MIN((size_t)f->u.states.from, all->len), to = page_end(all, from);
    struct ctl_frame out = {.code = CTL_STATE,
                            .ref = f->ref,
                            .u.state = {.next = to < all->len ? to : 0,
                                        .frames = ctl_bytes_of(all->bytes + from, to - from)}};
    uint8_t *frame = malloc(to - from + CTL_PLAIN_MAX);
    size_t len = frame ? ctl_encode(&out, frame, to - from + CTL_PLAIN_MAX) : 0;
    if (len)
        pipe_put(&c->pipe, frame, len);
    else
        pipe_reply(&c->pipe, f, CTL_FAILED, "no memory");
    free(frame);
}

static uint64_t since_ns(uint64_t then)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
    return now > then ? now - then : 0;
}

/* The other one is told first: from then on it never reads again. What one worker has told another
 * of clients that are about to move is to be there before the first datagram is read. */
void takeover_live(struct control *c, const struct ctl_frame *f)
{
    struct takeover *t = &c->takeover;
    tether_answer(t->from, TETHER_READS);
    close(t->from);
    t->from = -1;
    t->pending = false;
    t->settling = true;
    t->ref = f->ref;
    c->retiring.moving = c->worker_count;
    office_mail_all(c, MAIL_HOLD, NULL, 0);
}

static void read_on(struct control *c)
{
    struct takeover *t = &c->takeover;
    t->settling = false;
    uint32_t closed = left_end(&t->left) + left_conns_end(&t->conns);
    office_mail_all(c, MAIL_GO_ON, NULL, 0);
    uint64_t gap = since_ns(t->held_ns) / 1000;
    struct ctl_frame out = {.code = CTL_TAKEN,
                            .ref = t->ref,
                            .u.taken = {.gap_us = (uint32_t)MIN(gap, (uint64_t)UINT32_MAX),
                                        .listeners = t->left.listeners,
                                        .relayed = t->left.relayed,
                                        .closed = closed,
                                        .connections = t->conns.taken}};
    pipe_send(&c->pipe, &out);
    forget(t);
}

/* ------------------------------------------------------------------------------- connections */

/* They are there before anything that is made for them. One of a worker that is none is closed in
 * the end. */
void takeover_listens(struct control *c, uint32_t listener)
{
    struct left_conn *conn;
    size_t at = 0;
    while ((conn = left_conns_take(&c->takeover.conns, listener, &at))) {
        if (conn->told.worker < c->worker_count)
            office_mail(c, conn->told.worker, MAIL_LEFT, &conn, sizeof(conn));
        else
            left_conn_end(conn);
    }
}

/* --------------------------------------------------------------------------------- the place */

static bool may_claim(const struct control *c)
{
    return c->takeover.lock >= 0 && !c->takeover.pending;
}

uint64_t takeover_due(const struct control *c)
{
    return may_claim(c) ? c->time.now + CLAIM_NS : UINT64_MAX;
}

void takeover_turn(struct control *c)
{
    struct takeover *t = &c->takeover;
    if (t->settling && !c->retiring.moving)
        read_on(c);
    if (!may_claim(c))
        return;
    int socket = tether_claim(c->survival.path, t->lock);
    if (socket < 0)
        return;
    survival_place(c, socket);
    t->lock = -1; /* it stays open, for it is what keeps the lock */
}
