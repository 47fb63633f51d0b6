/*
 * Sending on io_uring: runs into submissions, and what becomes of those that fail. See ring.h.
 */
#include "uring_send.h"

static void put_run(struct uring *u, uint32_t index)
{
    struct run *run = &u->runs->runs[index];
    struct io_uring_sqe *sqe = ring_sqe(u);
    if (LIKELY(u->plain_send && run_is_plain(u->runs, run))) {
        const struct outgoing *out = &u->runs->out[run->first];
        io_uring_prep_send(sqe, run->socket->fd, out->data, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        io_uring_prep_send_set_addr(sqe, (const struct sockaddr *)&run->name,
                                    (uint16_t)run->name_len);
    } else {
        io_uring_prep_sendmsg(sqe, run->socket->fd, runs_message(u->runs, run),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
        run_count(&u->io.counts, run);
    }
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = tag_send(index, u->batch);
}

void uring_put_runs(struct uring *u)
{
    while (u->runs_put < u->runs->count)
        put_run(u, u->runs_put++);
}

static void settle_failed(struct uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        uint64_t what = cqe->user_data;
        if (LIKELY(tag_op(what) != OP_SEND))
            continue;
        cqe->user_data = tag(OP_NONE, 0, 0);
        if (cqe->res < 0 && (uint32_t)what == u->batch)
            direct_again(&u->io, u->runs, &u->runs->runs[what >> 32 & 0xfffffff], -cqe->res,
                         &u->reports);
    }
}

void uring_settle(struct uring *u, uint32_t keep)
{
    if (u->runs_put) {
        settle_failed(u);
        runs_clear(u->runs);
        u->runs_put = 0;
        u->batch++;
    }
    ring_give_back(u, keep);
}

void uring_flush(struct uring *u, uint32_t keep)
{
    uring_put_runs(u);
    ring_submit(u);
    uring_settle(u, keep);
}

void uring_flush_now(struct uring *u)
{
    uring_flush(u, u->consumed_count ? 1 : 0);
}

/* For a datagram that finds no room, or whose socket has the option set otherwise. A function of
 * its own, so that the usual case needs no stack for it. */
COLD static void send_after_flush(struct io *io, struct io_socket *s, const uint8_t *head,
                                  const uint8_t *data, size_t len, const struct addr *to,
                                  const struct addr *from, unsigned flags)
{
    struct uring *u = uring_of(io);
    bool whole = flags & IO_DONT_FRAGMENT;
    uring_flush_now(u);
    if (whole != s->whole)
        direct_keep_whole(s, to->family, whole);
    runs_add(u->runs, s, head, data, len, to, from);
}

void uring_send(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                size_t len, const struct addr *to, const struct addr *from, unsigned flags)
{
    struct uring *u = uring_of(io);
    bool whole = flags & IO_DONT_FRAGMENT;
    if (UNLIKELY(whole != s->whole || runs_full(u->runs)))
        send_after_flush(io, s, head, data, len, to, from, flags);
    else
        runs_add(u->runs, s, head, data, len, to, from);
}

uint8_t *uring_scratch(struct io *io, size_t len)
{
    struct uring *u = uring_of(io);
    if (u->scratch_used + len > SCRATCH_LEN) {
        uring_flush_now(u);
        u->scratch_used = 0;
    }
    uint8_t *p = u->scratch + u->scratch_used;
    u->scratch_used += (len + 15) & ~(size_t)15;
    return p;
}
