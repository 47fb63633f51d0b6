#include "uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "io_stream.h"
#include "memory.h"
#include "uring_recv.h"
#include "uring_send.h"

/* -------------------------------------------------------------------------------------- a turn */

static void arm_wake(struct uring *u)
{
    struct io_uring_sqe *sqe = ring_sqe(u);
    io_uring_prep_read(sqe, u->wake_fd, &u->wake_value, sizeof(u->wake_value), 0);
    sqe->user_data = tag(OP_WAKE, 0, 0);
    u->wake_armed = true;
}

static void arm_streams(struct uring *u)
{
    struct io_uring_sqe *sqe = ring_sqe(u);
    io_uring_prep_poll_add(sqe, u->io.streams.fd, POLLIN);
    sqe->user_data = tag(OP_STREAMS, 0, 0);
    u->streams_armed = true;
}

static int submit_and_sleep(struct uring *u, uint32_t sleep_ns, uint64_t timeout_ns)
{
    int ret = io_uring_sq_ready(&u->ring) ? io_uring_submit(&u->ring) : 0;
    if (ret < 0)
        return ret;
    pace_sleep(sleep_ns, timeout_ns);
    return io_uring_get_events(&u->ring);
}

/* The kernel may wait for several datagrams by itself, which is one call instead of three. That is
 * better only where none of them has to wake us (pace.h). */
static int submit_and_await(struct uring *u, struct pace_wait pace, uint64_t timeout_ns)
{
    uint64_t wait = pace.datagrams > 1 ? MIN(pace.ns, timeout_ns) : timeout_ns;
    struct __kernel_timespec ts = {.tv_sec = (long long)(wait / NS_PER_S),
                                   .tv_nsec = (long long)(wait % NS_PER_S)};
    struct io_uring_cqe *cqe;
    return io_uring_submit_and_wait_timeout(&u->ring, &cqe, pace.datagrams, &ts, NULL);
}

static void submit_and_wait(struct uring *u, uint64_t timeout_ns)
{
    struct pace_wait pace = pace_next(&u->pace);
    int ret = pace.sleep_ns ? submit_and_sleep(u, pace.sleep_ns, timeout_ns)
                            : submit_and_await(u, pace, timeout_ns);
    if (LIKELY(!io_uring_sq_ready(&u->ring) && (ret >= 0 || ret == -ETIME || ret == -EINTR)))
        u->refusals = 0;
    else
        ring_patience(&u->refusals, "io_uring wait", ret < 0 ? -ret : EAGAIN);
}

static void uring_wait(struct io *io, uint64_t timeout_ns)
{
    struct uring *u = uring_of(io);
    if (!u->wake_armed)
        arm_wake(u);
    if (UNLIKELY(!u->streams_armed && !io->held)) /* what is ready stays so */
        arm_streams(u);
    if (u->rearm_count) {
        uring_flush(u, 0); /* buffers back first, or the receive would end again at once */
        uring_rearm(u);
    }
    uring_put_runs(u);
    submit_and_wait(u, u->rearm_count || io_streams_hungry(io) ? 0 : clock_wait(timeout_ns));
    if (UNLIKELY(io_uring_sq_ready(&u->ring))) {
        runs_seal(u->runs); /* not all submitted yet: they and their buffers stay */
        return;
    }
    uring_settle(u, 0);
    u->scratch_used = 0;
    u->io.settled++;
}

static void handle(struct uring *u, const struct io_uring_cqe *cqe)
{
    switch (tag_op(cqe->user_data)) {
    case OP_RECV:
        uring_on_recv(u, cqe);
        break;
    case OP_CANCEL:
        uring_on_cancel(u, cqe);
        break;
    case OP_WAKE:
        u->wake_armed = false;
        break;
    case OP_STREAMS:
        u->streams_armed = false;
        u->io.streams.ready = true;
        break;
    case OP_SEND: /* so late that its batch is gone */
        u->io.events.on_trouble(u->io.events.ctx, IO_SEND_UNKNOWN, -cqe->res);
        break;
    case OP_NONE:
        break;
    }
}

static void uring_dispatch(struct io *io)
{
    struct uring *u = uring_of(io);
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        handle(u, cqe);
        n++;
    }
    io_uring_cq_advance(&u->ring, n);
    io_streams_dispatch(io);
    pace_note(&u->pace, clock_read().now / CLOCK_SPEED, n);
    reports_tell(&u->reports, u->io.events.ctx);
}

static void uring_wake(struct io *io)
{
    uint64_t one = 1;
    ssize_t ignored = write(uring_of(io)->wake_fd, &one, sizeof(one));
    (void)ignored; /* a full counter wakes as well */
}

/* ------------------------------------------------------------------------------ life of a ring */

static unsigned open_sockets(const struct uring *u)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < u->slots_used; i++)
        n += u->slots[i].socket != NULL;
    return n;
}

/* A receive holds its socket open behind the descriptor's back, and the kernel takes its time with
 * a ring that is only closed: so each goes the way it goes in service. The bound is for a kernel
 * that does not answer. */
static void uring_stop(struct io *io)
{
    struct uring *u = uring_of(io);
    for (uint32_t i = 0; i < u->slots_used; i++)
        if (u->slots[i].socket && !u->slots[i].socket->removing)
            uring_remove(io, u->slots[i].socket);
    for (int turns = 0; turns < 200 && open_sockets(u) > 0; turns++) {
        uring_wait(io, 10 * NS_PER_MS);
        uring_dispatch(io);
    }
}

static void uring_destroy(struct io *io)
{
    struct uring *u = uring_of(io);
    for (uint32_t i = 0; i < u->slots_used; i++)
        if (u->slots[i].socket)
            close(u->slots[i].socket->fd);
    io_uring_queue_exit(&u->ring);
    io_streams_close(io);
    close(u->wake_fd);
    memory_release(u->buf_ring, BUFFERS * sizeof(struct io_uring_buf));
    memory_release(u->buffers, (size_t)BUFFERS * STRIDE);
    memory_release(u->slots, u->slots_max * sizeof(*u->slots));
    memory_release(u->rearm, u->slots_max * sizeof(*u->rearm));
    free(u->runs);
    free(u->scratch);
    free(u->consumed);
    free(u);
}

static int open_ring(struct io_uring *ring)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
    };
    int ret = -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
        struct io_uring_params p = {0};
        p.flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
        p.cq_entries = CQ_ENTRIES;
        ret = io_uring_queue_init_params(SQ_ENTRIES, ring, &p);
    }
    return ret;
}

/* Linux 6.1 has it, and no other way to say so than the operation that came along with it. Found
 * out here and not by trying: a send may be refused for many reasons. */
static bool takes_address_with_send(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool takes = probe && io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC);
    io_uring_free_probe(probe);
    return takes;
}

static const struct io_ops uring_ops = {
    .stop = uring_stop,
    .destroy = uring_destroy,
    .wait = uring_wait,
    .dispatch = uring_dispatch,
    .wake = uring_wake,
    .hold = uring_hold,
    .go_on = uring_go_on,
    .is_still = uring_is_still,
};

static const struct io_dgram_ops uring_dgram_ops = {
    .add = uring_add,
    .remove = uring_remove,
    .send = uring_send,
    .scratch = uring_scratch,
};

int uring_create(struct io **out, const struct io_events *events, uint32_t sockets_max)
{
    struct uring *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    int ret = open_ring(&u->ring);
    if (ret)
        goto err_free;
    u->io = (struct io){.ops = &uring_ops, .dgram = &uring_dgram_ops, .events = *events};
    u->plain_send = takes_address_with_send(&u->ring);
    u->recv_template = (struct msghdr){.msg_namelen = NAME_LEN, .msg_controllen = CONTROL_LEN};
    u->slots_max = sockets_max;
    u->slots = memory_reserve(sockets_max * sizeof(*u->slots));
    u->rearm = memory_reserve(sockets_max * sizeof(*u->rearm));
    u->buf_ring = memory_reserve(BUFFERS * sizeof(struct io_uring_buf));
    u->buffers = memory_reserve((size_t)BUFFERS * STRIDE);
    u->runs = calloc(1, sizeof(*u->runs));
    u->scratch = malloc(SCRATCH_LEN);
    u->consumed = calloc(BUFFERS, sizeof(*u->consumed));
    u->wake_fd = eventfd(0, EFD_CLOEXEC);
    ret = io_streams_open(&u->io);
    if (ret)
        goto err_memory;
    ret = -ENOMEM;
    if (!u->slots || !u->rearm || !u->buf_ring || !u->buffers || !u->runs || !u->scratch ||
        !u->consumed || u->wake_fd < 0)
        goto err_memory;
    ret = ring_register_buffers(u);
    if (ret)
        goto err_memory;
    io_uring_register_ring_fd(&u->ring); /* saves a lookup per enter; fine without */
    *out = &u->io;
    return 0;

err_memory:
    uring_destroy(&u->io);
    return ret;
err_free:
    free(u);
    return ret;
}
