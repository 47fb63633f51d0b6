/*
 * Receiving on io_uring: buffers, sockets and their multishot receives. See ring.h.
 */
#include "uring_recv.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "uring_send.h"

/* ------------------------------------------------------------------------------------- sockets */

static void arm(struct uring *u, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    struct io_uring_sqe *sqe = ring_sqe(u);
    io_uring_prep_recvmsg_multishot(sqe, s->fd, &u->recv_template, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    sqe->user_data = tag(OP_RECV, slot->gen, index);
    s->armed = true;
}

int uring_add(struct io *io, struct io_socket *s)
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
    u->slots[index].refusals = 0;
    s->slot = index;
    s->removing = s->armed = false;
    if (!io->held)
        arm(u, index);
    return 0;
}

void uring_remove(struct io *io, struct io_socket *s)
{
    struct uring *u = uring_of(io);
    struct slot *slot = &u->slots[s->slot];
    s->removing = true;
    struct io_uring_sqe *sqe = ring_sqe(u);
    io_uring_prep_cancel64(sqe, tag(OP_RECV, slot->gen, s->slot), 0);
    sqe->user_data = tag(OP_CANCEL, slot->gen, s->slot);
}

static void closed(struct uring *u, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    /* A send still to be submitted names the descriptor by number: let it go first. */
    if (u->runs->datagrams)
        uring_flush_now(u);
    reports_forget(&u->reports, s);
    close(s->fd);
    s->fd = -1;
    slot->socket = NULL;
    slot->gen++;
    slot->next_free = u->free_slot;
    u->free_slot = index + 1;
    s->handler->on_closed(u->io.events.ctx, s);
}

static void arm_again(struct uring *u, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    slot->waits = false;
    if (s && !s->removing && !s->armed && !u->io.held)
        arm(u, index);
}

/* A receive that has been given datagrams already delivers them before it ends. */
void uring_hold(struct io *io)
{
    struct uring *u = uring_of(io);
    io->held = true;
    for (uint32_t i = 0; i < u->slots_used; i++) {
        const struct slot *slot = &u->slots[i];
        if (!slot->socket || !slot->socket->armed || slot->socket->removing)
            continue;
        struct io_uring_sqe *sqe = ring_sqe(u);
        io_uring_prep_cancel64(sqe, tag(OP_RECV, slot->gen, i), 0);
        sqe->user_data = tag(OP_NONE, 0, 0);
    }
}

void uring_go_on(struct io *io)
{
    struct uring *u = uring_of(io);
    io->held = false;
    for (uint32_t i = 0; i < u->slots_used; i++)
        if (!u->slots[i].waits)
            arm_again(u, i);
}

bool uring_is_still(struct io *io)
{
    const struct uring *u = uring_of(io);
    if (!io->held)
        return false;
    for (uint32_t i = 0; i < u->slots_used; i++)
        if (u->slots[i].socket && u->slots[i].socket->armed)
            return false;
    return true;
}

void uring_rearm(struct uring *u)
{
    uint32_t n = MIN(u->rearm_count, (uint32_t)REARM_MAX);
    for (uint32_t i = 0; i < n; i++)
        arm_again(u, u->rearm[i]);
    u->rearm_count -= n;
    memmove(u->rearm, u->rearm + n, u->rearm_count * sizeof(u->rearm[0]));
}

/* --------------------------------------------------------------------------------- completions */

/* The same that liburing's accessors find: where the parts of a buffer lie was fixed by us
 * (ring.h). */
static void received(struct uring *u, struct io_socket *s, uint8_t *buffer, int res)
{
    const struct io_uring_recvmsg_out *out = (const void *)buffer;
    const void *name = buffer + sizeof(*out);
    struct io_packet p = {.roomy = true, .data = buffer + PAYLOAD_OFFSET};
    u->slots[s->slot].refusals = 0;
    if (UNLIKELY(res < PAYLOAD_OFFSET || !addr_from_sockaddr(&p.from, name, out->namelen)))
        return;
    struct msghdr control = {.msg_control = buffer + sizeof(*out) + NAME_LEN,
                             .msg_controllen = MIN(out->controllen, CONTROL_LEN)};
    p.len = MIN(out->payloadlen, (uint32_t)(res - PAYLOAD_OFFSET));
    p.truncated = (out->flags & MSG_TRUNC) != 0;
    deliver(&u->io, s, &p, &control);
}

/* The slot a completion means, NULL when its socket is gone since. */
static struct slot *slot_of(struct uring *u, uint64_t what)
{
    uint32_t index = (uint32_t)what, gen = (uint32_t)(what >> 42) & GEN_MASK;
    if (index >= u->slots_max)
        return NULL;
    struct slot *slot = &u->slots[index];
    return slot->socket && (slot->gen & GEN_MASK) == gen ? slot : NULL;
}

/* Its receive starts again in some later turn. All clients hang on a listener, so that goes before
 * relayed sockets. */
static void wait_turn(struct uring *u, uint32_t index)
{
    struct slot *slot = &u->slots[index];
    if (slot->waits)
        return;
    slot->waits = true;
    if (slot->socket->first) {
        memmove(u->rearm + 1, u->rearm, u->rearm_count * sizeof(u->rearm[0]));
        u->rearm[0] = index;
    } else {
        u->rearm[u->rearm_count] = index;
    }
    u->rearm_count++;
}

/* Cancelled, out of buffers, a datagram without bytes, or an error. After the second and the last
 * kind it waits its turn, for what was wrong may last; after the third it goes on at once. */
static void ended(struct uring *u, uint32_t index, int res)
{
    struct slot *slot = &u->slots[index];
    struct io_socket *s = slot->socket;
    s->armed = false;
    if (s->removing) {
        closed(u, index);
        return;
    }
    if (u->io.held)
        return;
    if (res >= 0) {
        arm(u, index);
        return;
    }
    if (res != -ENOBUFS && !errqueue_may_hold(-res))
        ring_patience(&slot->refusals, "receiving", -res);
    if (res == -ENOBUFS)
        u->io.events.on_trouble(u->io.events.ctx, IO_NO_BUFFERS, ENOBUFS);
    else if (s->wants_errors)
        reports_read(&u->reports, s, NULL);
    else
        u->io.events.on_trouble(u->io.events.ctx, IO_RECEIVE, -res);
    wait_turn(u, index);
}

void uring_on_recv(struct uring *u, const struct io_uring_cqe *cqe)
{
    struct slot *slot = slot_of(u, cqe->user_data);
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        uint16_t bid = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        u->consumed[u->consumed_count++] = bid;
        if (slot && cqe->res >= 0 && !slot->socket->removing)
            received(u, slot->socket, u->buffers + (size_t)bid * STRIDE, cqe->res);
    }
    if (slot && !(cqe->flags & IORING_CQE_F_MORE))
        ended(u, (uint32_t)cqe->user_data, cqe->res);
}

/* Nothing to cancel: the receive had just ended and waits to be armed again. */
void uring_on_cancel(struct uring *u, const struct io_uring_cqe *cqe)
{
    struct slot *slot = slot_of(u, cqe->user_data);
    if (slot && !slot->socket->armed)
        closed(u, (uint32_t)cqe->user_data);
}
