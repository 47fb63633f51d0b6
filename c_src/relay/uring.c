/*
 * io.h on io_uring: one ring per worker thread, multishot recvmsg into a ring of provided buffers,
 * sends without completions. The only file that knows liburing; knows no STUN.
 *
 * A receive buffer, so that headers are added and removed without moving the payload:
 *
 *   | io_uring_recvmsg_out 16 | name 32 | control 72 | payload ...            | tail 8 |
 *                             '---- read first, then IO_HEADROOM -----'
 *
 * Its stride is no multiple of a page, so that small packets do not all meet in the same cache
 * sets; a buffer holds the largest datagram there is, and pages it never reached cost nothing.
 *
 * Sends carry MSG_DONTWAIT and so are over when the submission returns: that is when buffers go
 * back to the kernel and scratch starts anew. A send that fails posts a completion all the same.
 *
 * A socket is referred to by slot and generation, never by pointer: completions may be late.
 * It goes in two steps: the receive is cancelled; its last completion closes the descriptor.
 */
#include "io.h"

#include <errno.h>
#include <liburing.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "errqueue.h"
#include "log.h"
#include "slab.h"
#include "socket.h"

enum {
    SQ_ENTRIES = 1024,
    CQ_ENTRIES = 8192,
    BUFFERS = 1024, /* a power of two */
    BUFFER_GROUP = 0,
    NAME_LEN = 32,    /* a sockaddr_in6, and control behind it aligned */
    CONTROL_LEN = 72, /* pktinfo of either family needs at most 40; the rest is headroom */
    PAYLOAD_MAX = 65535,
    PAYLOAD_OFFSET = sizeof(struct io_uring_recvmsg_out) + NAME_LEN + CONTROL_LEN,
    BUFFER_LEN = PAYLOAD_OFFSET + PAYLOAD_MAX,
    STRIDE = (BUFFER_LEN + IO_TAILROOM + 63) / 64 * 64 + 64 * 9,
    SCRATCH_LEN = 256 * 1024,
    SEND_CONTROL_LEN = 64,
    REPORTS = 64, /* ICMP errors kept between two dispatches; beyond it they are only drained */
};

_Static_assert(NAME_LEN >= sizeof(struct sockaddr_in6) && NAME_LEN % 8 == 0, "name, then cmsghdr");
_Static_assert(NAME_LEN + CONTROL_LEN >= IO_HEADROOM, "headroom comes out of name and control");
_Static_assert(STRIDE % 4096 != 0, "buffers must not all start in the same cache sets");

/* user_data, from the top: operation (4 bits), generation (18), send (10), slot (32). */
enum op { OP_NONE = 0, OP_RECV, OP_SEND, OP_CANCEL, OP_WAKE };
enum { GEN_MASK = 0x3ffff, SEND_MASK = SQ_ENTRIES - 1 };

static uint64_t tag(enum op op, uint32_t gen, uint32_t slot)
{
    return (uint64_t)op << 60 | (uint64_t)(gen & GEN_MASK) << 42 | slot;
}

static enum op tag_op(uint64_t tag)
{
    return (enum op)(tag >> 60);
}

/* What the kernel reads while it submits one send. */
struct send {
    struct sockaddr_storage name;
    struct msghdr msg;
    struct io_socket *socket;
    struct iovec iov;
    alignas(struct cmsghdr) uint8_t control[SEND_CONTROL_LEN];
};

struct report {
    uint32_t slot, gen;
    struct io_icmp icmp;
};

struct slot {
    struct io_socket *socket;
    uint32_t gen;
    uint32_t next_free; /* index + 1 */
};

struct uring {
    struct io io;
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    uint8_t *buffers;
    struct msghdr recv_template;
    struct slot *slots;
    uint32_t slots_max, slots_used, free_slot;
    struct send *sends; /* one for each submission that may be pending */
    uint32_t sends_used;
    struct report reports[REPORTS]; /* told at the next dispatch: whoever hears may send */
    uint32_t report_count;
    uint8_t *scratch;
    size_t scratch_used;
    uint16_t *consumed; /* buffers to give back after the next submission */
    uint32_t consumed_count;
    uint32_t *rearm; /* slots whose receive ended and must start again */
    uint32_t rearm_count;
    int wake_fd;
    uint64_t wake_value;
    bool wake_armed;
    bool plain_send; /* the kernel takes an address with IORING_OP_SEND (6.1) */
};

static struct uring *uring_of(struct io *io)
{
    return container_of(io, struct uring, io);
}

/* ---------------------------------------------------------------------------------------- ICMP */

/* Takes what ICMP said out of the socket; it is told at the next dispatch. `to` is where the
 * datagram of this moment was to go, NULL if there is none. */
static void drain_errors(struct uring *u, struct io_socket *s, const struct addr *to)
{
    struct io_icmp said[ERRQUEUE_MAX];
    unsigned n = errqueue_read(s->fd, said);
    for (unsigned i = 0; i < n && u->report_count < REPORTS; i++) {
        if (to && said[i].peer.port == 0 && addr_ip_equal(&said[i].peer, to))
            said[i].peer.port = to->port;
        u->reports[u->report_count++] = (struct report){s->slot, u->slots[s->slot].gen, said[i]};
    }
}

static void tell_reports(struct uring *u)
{
    for (uint32_t i = 0; i < u->report_count; i++) {
        const struct report *r = &u->reports[i];
        struct slot *slot = &u->slots[r->slot];
        if (slot->gen == r->gen && slot->socket && !slot->socket->removing)
            u->io.events.on_icmp(u->io.events.ctx, slot->socket, &r->icmp);
    }
    u->report_count = 0;
}

/* ----------------------------------------------------------------------------- submission side */

static void give_back(struct uring *u, uint32_t keep)
{
    uint32_t n = u->consumed_count - keep;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t bid = u->consumed[i];
        io_uring_buf_ring_add(u->buf_ring, u->buffers + (size_t)bid * STRIDE, BUFFER_LEN, bid,
                              BUFFERS - 1, (int)i);
    }
    if (n)
        io_uring_buf_ring_advance(u->buf_ring, (int)n);
    if (keep)
        u->consumed[0] = u->consumed[n];
    u->consumed_count = keep;
}

/*
 * A send may fail for what became of an earlier one: the kernel says ICMP errors to the next call,
 * whichever it is (threat X29). Such a datagram is sent again, while it still lies in its buffer;
 * and what was said is read.
 */
static void resend_failed(struct uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        if (tag_op(cqe->user_data) != OP_SEND || !errqueue_may_hold(-cqe->res))
            continue;
        struct send *send = &u->sends[(cqe->user_data >> 32) & SEND_MASK];
        if (!send->socket->wants_errors || send->socket->fd < 0)
            continue;
        drain_errors(u, send->socket, NULL);
        if (sendmsg(send->socket->fd, &send->msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            cqe->user_data = tag(OP_NONE, 0, 0);
    }
}

/* Everything prepared is with the kernel afterwards. `keep` buffers, the latest, stay ours: the
 * packet being handled. */
static void flush(struct uring *u, uint32_t keep)
{
    int ret;
    do
        ret = io_uring_submit(&u->ring);
    while (ret == -EINTR || ret == -EAGAIN || ret == -EBUSY);
    if (ret < 0)
        log_error("io_uring_submit: %s", strerror(-ret));
    if (u->sends_used)
        resend_failed(u);
    u->sends_used = 0;
    give_back(u, keep);
}

static struct io_uring_sqe *sqe_get(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (UNLIKELY(!sqe)) {
        flush(u, u->consumed_count ? 1 : 0);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

static void arm(struct uring *u, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    struct io_uring_sqe *sqe = sqe_get(u);
    io_uring_prep_recvmsg_multishot(sqe, s->fd, &u->recv_template, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    sqe->user_data = tag(OP_RECV, slot->gen, index);
    s->armed = true;
}

static void arm_wake(struct uring *u)
{
    struct io_uring_sqe *sqe = sqe_get(u);
    io_uring_prep_read(sqe, u->wake_fd, &u->wake_value, sizeof(u->wake_value), 0);
    sqe->user_data = tag(OP_WAKE, 0, 0);
    u->wake_armed = true;
}

static void put_pktinfo(struct send *send, const struct addr *from)
{
    send->msg.msg_control = send->control;
    struct cmsghdr *c = (struct cmsghdr *)send->control;
    if (from->family == ADDR_V4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, addr_v4(from), 4);
        send->msg.msg_controllen = CMSG_SPACE(sizeof(info));
        *c = (struct cmsghdr){CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO};
        memcpy(CMSG_DATA(c), &info, sizeof(info));
    } else {
        struct in6_pktinfo info = {.ipi6_ifindex = from->scope};
        memcpy(&info.ipi6_addr, from->ip, 16);
        send->msg.msg_controllen = CMSG_SPACE(sizeof(info));
        *c = (struct cmsghdr){CMSG_LEN(sizeof(info)), IPPROTO_IPV6, IPV6_PKTINFO};
        memcpy(CMSG_DATA(c), &info, sizeof(info));
    }
}

/* Apart from the ring, for the option must stand while the kernel builds the packet; what was
 * prepared goes first, so that nothing is overtaken. */
static void send_unfragmented(struct uring *u, struct io_socket *s, const struct send *send,
                              const struct addr *to)
{
    int old = 0; /* what ICMP said of earlier datagrams: not to be taken for this one's fate */
    socklen_t len = sizeof(old);
    flush(u, u->consumed_count ? 1 : 0);
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &old, &len);
    if (old)
        drain_errors(u, s, NULL);
    socket_dont_fragment(s->fd, to->family, true);
    if (sendmsg(s->fd, &send->msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        int err = errno;
        drain_errors(u, s, to); /* too long for the path: the kernel says so as ICMP would */
        u->io.events.on_error(u->io.events.ctx, s, err);
    }
    socket_dont_fragment(s->fd, to->family, false);
}

static void uring_send(struct io *io, struct io_socket *s, const uint8_t *data, size_t len,
                       const struct addr *to, const struct addr *from, unsigned flags)
{
    struct uring *u = uring_of(io);
    bool named = s->wants_dest && from && from->family != ADDR_NONE;
    struct io_uring_sqe *sqe = flags & IO_DONT_FRAGMENT ? NULL : sqe_get(u);
    uint32_t index = u->sends_used;
    struct send *send = &u->sends[index];
    send->socket = s;
    send->iov = (struct iovec){(void *)(uintptr_t)data, len};
    send->msg = (struct msghdr){.msg_name = &send->name,
                                .msg_namelen = addr_to_sockaddr(to, &send->name),
                                .msg_iov = &send->iov,
                                .msg_iovlen = 1};
    if (named)
        put_pktinfo(send, from);
    if (!sqe) {
        send_unfragmented(u, s, send, to);
        return;
    }
    u->sends_used++;
    if (!named && u->plain_send) {
        io_uring_prep_send(sqe, s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        io_uring_prep_send_set_addr(sqe, (const struct sockaddr *)&send->name,
                                    (uint16_t)send->msg.msg_namelen);
    } else {
        io_uring_prep_sendmsg(sqe, s->fd, &send->msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = tag(OP_SEND, u->slots[s->slot].gen, s->slot) | (uint64_t)index << 32;
}

static uint8_t *uring_scratch(struct io *io, size_t len)
{
    struct uring *u = uring_of(io);
    if (u->scratch_used + len > SCRATCH_LEN) {
        flush(u, u->consumed_count ? 1 : 0);
        u->scratch_used = 0;
    }
    uint8_t *p = u->scratch + u->scratch_used;
    u->scratch_used += (len + 15) & ~(size_t)15;
    return p;
}

/* ----------------------------------------------------------------------------- life of sockets */

static int uring_add(struct io *io, struct io_socket *s)
{
    struct uring *u = uring_of(io);
    uint32_t index;
    if (u->free_slot) {
        index = u->free_slot - 1;
        u->free_slot = u->slots[index].next_free;
    } else if (u->slots_used < u->slots_max) {
        index = u->slots_used++;
    } else {
        return -ENOSPC;
    }
    u->slots[index].socket = s;
    s->slot = index;
    s->removing = false;
    arm(u, index);
    return 0;
}

static void uring_remove(struct io *io, struct io_socket *s)
{
    struct uring *u = uring_of(io);
    struct slot *slot = &u->slots[s->slot];
    s->removing = true;
    struct io_uring_sqe *sqe = sqe_get(u);
    io_uring_prep_cancel64(sqe, tag(OP_RECV, slot->gen, s->slot), 0);
    sqe->user_data = tag(OP_CANCEL, slot->gen, s->slot);
}

static void closed(struct uring *u, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    /* A send still to be submitted names the descriptor by number: let it go first. */
    if (u->sends_used)
        flush(u, u->consumed_count ? 1 : 0);
    close(s->fd);
    s->fd = -1;
    slot->socket = NULL;
    slot->gen++;
    slot->next_free = u->free_slot;
    u->free_slot = index + 1;
    u->io.events.on_closed(u->io.events.ctx, s);
}

/* ----------------------------------------------------------------------------- completion side */

static void read_dest(struct addr *dest, struct io_uring_recvmsg_out *out, struct msghdr *template)
{
    for (struct cmsghdr *c = io_uring_recvmsg_cmsg_firsthdr(out, template); c;
         c = io_uring_recvmsg_cmsg_nexthdr(out, template, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            *dest = addr_from_v4((const uint8_t *)&info.ipi_addr, 0);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            *dest = addr_from_v6((const uint8_t *)&info.ipi6_addr, 0);
            if (dest->ip[0] == 0xfe && (dest->ip[1] & 0xc0) == 0x80)
                dest->scope = info.ipi6_ifindex;
        }
    }
}

static void received(struct uring *u, struct io_socket *s, uint8_t *buffer, int res)
{
    struct msghdr *template = &u->recv_template;
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, res, template);
    struct io_packet p = {0};
    if (!out || !addr_from_sockaddr(&p.from, io_uring_recvmsg_name(out), out->namelen))
        return;
    if (s->wants_dest)
        read_dest(&p.dest, out, template);
    p.data = buffer + PAYLOAD_OFFSET;
    p.len = io_uring_recvmsg_payload_length(out, res, template);
    p.truncated = (out->flags & MSG_TRUNC) != 0;
    u->io.events.on_packet(u->io.events.ctx, s, &p);
}

static void on_recv(struct uring *u, const struct io_uring_cqe *cqe, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    bool more = cqe->flags & IORING_CQE_F_MORE;
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        uint16_t bid = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        u->consumed[u->consumed_count++] = bid;
        if (cqe->res >= 0 && !s->removing)
            received(u, s, u->buffers + (size_t)bid * STRIDE, cqe->res);
    }
    if (more)
        return;
    /* The multishot ended: cancelled, out of buffers, a datagram of length zero, or an error. */
    s->armed = false;
    if (s->removing) {
        closed(u, index);
        return;
    }
    if (cqe->res == -ENOBUFS)
        u->io.events.on_error(u->io.events.ctx, NULL, ENOBUFS);
    else if (cqe->res < 0 && s->wants_errors)
        drain_errors(u, s, NULL);
    else if (cqe->res < 0)
        u->io.events.on_error(u->io.events.ctx, s, -cqe->res);
    u->rearm[u->rearm_count++] = index;
}

static void on_send_error(struct uring *u, const struct io_uring_cqe *cqe, struct io_socket *s)
{
    if (u->plain_send && (cqe->res == -EINVAL || cqe->res == -EDESTADDRREQ)) {
        u->plain_send = false; /* a kernel before 6.1: say it the long way from now on */
        log_info("kernel takes no address with IORING_OP_SEND; using SENDMSG");
    }
    u->io.events.on_error(u->io.events.ctx, s, -cqe->res);
}

static void handle(struct uring *u, const struct io_uring_cqe *cqe)
{
    uint32_t index = (uint32_t)cqe->user_data;
    uint32_t gen = (uint32_t)(cqe->user_data >> 42) & GEN_MASK;
    bool stale =
        index >= u->slots_max || (u->slots[index].gen & GEN_MASK) != gen || !u->slots[index].socket;
    switch (tag_op(cqe->user_data)) {
    case OP_NONE:
        break;
    case OP_RECV:
        if (!stale)
            on_recv(u, cqe, index);
        break;
    case OP_SEND:
        if (!stale && cqe->res < 0)
            on_send_error(u, cqe, u->slots[index].socket);
        break;
    case OP_CANCEL:
        /* Nothing to cancel: the receive had just ended and waits to be armed again. */
        if (!stale && !u->slots[index].socket->armed)
            closed(u, index);
        break;
    case OP_WAKE:
        u->wake_armed = false;
        break;
    }
}

static void rearm_all(struct uring *u)
{
    uint32_t n = u->rearm_count;
    u->rearm_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct io_socket *s = u->slots[u->rearm[i]].socket;
        if (s && !s->removing && !s->armed)
            arm(u, u->rearm[i]);
    }
}

static void uring_wait(struct io *io, uint64_t timeout_ns)
{
    struct uring *u = uring_of(io);
    if (!u->wake_armed)
        arm_wake(u);
    if (u->rearm_count) {
        flush(u, 0); /* buffers back first, or the receive would end again at once */
        rearm_all(u);
    }
    uint64_t wait = clock_wait(timeout_ns);
    struct __kernel_timespec ts = {.tv_sec = (long long)(wait / NS_PER_S),
                                   .tv_nsec = (long long)(wait % NS_PER_S)};
    struct io_uring_cqe *cqe;
    int ret = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
    if (ret < 0 && ret != -ETIME && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
        log_error("io_uring wait: %s", strerror(-ret));
    if (io_uring_sq_ready(&u->ring))
        return; /* not all submitted yet: their buffers stay */
    if (u->sends_used)
        resend_failed(u);
    u->sends_used = 0;
    u->scratch_used = 0;
    give_back(u, 0);
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
    tell_reports(u);
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
    close(u->wake_fd);
    memory_release(u->buf_ring, BUFFERS * sizeof(struct io_uring_buf));
    memory_release(u->buffers, (size_t)BUFFERS * STRIDE);
    memory_release(u->slots, u->slots_max * sizeof(*u->slots));
    memory_release(u->rearm, u->slots_max * sizeof(*u->rearm));
    free(u->sends);
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

static int register_buffers(struct uring *u)
{
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)u->buf_ring, .ring_entries = BUFFERS, .bgid = BUFFER_GROUP};
    int ret = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (ret)
        return ret;
    io_uring_buf_ring_init(u->buf_ring);
    for (unsigned i = 0; i < BUFFERS; i++)
        io_uring_buf_ring_add(u->buf_ring, u->buffers + (size_t)i * STRIDE, BUFFER_LEN,
                              (unsigned short)i, BUFFERS - 1, (int)i);
    io_uring_buf_ring_advance(u->buf_ring, BUFFERS);
    return 0;
}

static const struct io_ops uring_ops = {
    .stop = uring_stop,
    .destroy = uring_destroy,
    .add = uring_add,
    .remove = uring_remove,
    .send = uring_send,
    .scratch = uring_scratch,
    .wait = uring_wait,
    .dispatch = uring_dispatch,
    .wake = uring_wake,
};

int uring_create(struct io **out, const struct io_events *events, uint32_t sockets_max)
{
    struct uring *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    int ret = open_ring(&u->ring);
    if (ret)
        goto err_free;
    u->io = (struct io){&uring_ops, *events};
    u->plain_send = true;
    u->recv_template = (struct msghdr){.msg_namelen = NAME_LEN, .msg_controllen = CONTROL_LEN};
    u->slots_max = sockets_max;
    u->slots = memory_reserve(sockets_max * sizeof(*u->slots));
    u->rearm = memory_reserve(sockets_max * sizeof(*u->rearm));
    u->buf_ring = memory_reserve(BUFFERS * sizeof(struct io_uring_buf));
    u->buffers = memory_reserve((size_t)BUFFERS * STRIDE);
    u->sends = calloc(SQ_ENTRIES, sizeof(*u->sends));
    u->scratch = malloc(SCRATCH_LEN);
    u->consumed = calloc(BUFFERS, sizeof(*u->consumed));
    u->wake_fd = eventfd(0, EFD_CLOEXEC);
    ret = -ENOMEM;
    if (!u->slots || !u->rearm || !u->buf_ring || !u->buffers || !u->sends || !u->scratch ||
        !u->consumed || u->wake_fd < 0)
        goto err_memory;
    ret = register_buffers(u);
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
