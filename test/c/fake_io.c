#include "fake_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io_stream.h"

enum { QUEUE = 64, SOCKETS = 4096, ROOM = 2048 };

struct fake_packet {
    struct io_socket *socket;
    struct addr from, dest;
    size_t len;
    uint8_t data[ROOM];
};

struct fake_io {
    struct io io;
    struct fake_packet in[QUEUE];
    unsigned in_count;
    struct fake_sent out[QUEUE];
    unsigned out_first, out_count;
    struct io_socket *removing[SOCKETS];
    unsigned removing_count;
    unsigned sockets;
    bool crowded, refuses;
    uint8_t scratch[1 << 17];
    size_t scratch_used;
};

static struct fake_io *fake_of(struct io *io)
{
    return container_of(io, struct fake_io, io);
}

static void fake_stop(struct io *io)
{
    (void)io; /* its sockets are the test's */
}

static void fake_destroy(struct io *io)
{
    io_streams_close(io);
    free(fake_of(io));
}

static int fake_add(struct io *io, struct io_socket *s)
{
    if (fake_of(io)->refuses)
        return -ENOSPC;
    fake_of(io)->sockets++;
    s->removing = false;
    return 0;
}

static void fake_remove(struct io *io, struct io_socket *s)
{
    struct fake_io *f = fake_of(io);
    s->removing = true;
    if (f->removing_count == SOCKETS)
        abort();
    f->removing[f->removing_count++] = s;
}

static void fake_send(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                      size_t len, const struct addr *to, const struct addr *from, unsigned flags)
{
    struct fake_io *f = fake_of(io);
    if (f->out_count == QUEUE) { /* nobody looks: forget the oldest */
        f->out_first = (f->out_first + 1) % QUEUE;
        f->out_count--;
    }
    struct fake_sent *out = &f->out[(f->out_first + f->out_count++) % QUEUE];
    *out = (struct fake_sent){.socket = s, .to = *to, .len = len, .flags = flags};
    size_t head_len = head ? IO_HEAD_LEN : 0;
    if (from)
        out->from = *from;
    if (head)
        memcpy(out->data, head, head_len);
    out->len += head_len;
    memcpy(out->data + head_len, data, MIN(len, sizeof(out->data) - head_len));
}

static uint8_t *fake_scratch(struct io *io, size_t len)
{
    struct fake_io *f = fake_of(io);
    if (f->scratch_used + len > sizeof(f->scratch))
        f->scratch_used = 0;
    uint8_t *p = f->scratch + f->scratch_used;
    f->scratch_used += len;
    return p;
}

static void fake_wait(struct io *io, uint64_t timeout_ns)
{
    (void)timeout_ns;
    fake_of(io)->scratch_used = 0;
    io->settled++;
}

static void deliver(struct fake_io *f, const struct fake_packet *in)
{
    /* Exactly the room io.h promises, so that a sanitizer sees the first byte beyond it. */
    size_t before = f->crowded ? 0 : IO_HEADROOM, behind = f->crowded ? 0 : IO_TAILROOM;
    uint8_t *room = malloc(before + in->len + behind);
    if (!room)
        abort();
    memset(room, 0xaa, before + in->len + behind);
    memcpy(room + before, in->data, in->len);
    struct io_packet p = {.data = room + before,
                          .len = in->len,
                          .from = in->from,
                          .dest = in->dest,
                          .roomy = !f->crowded};
    in->socket->handler->on_packet(f->io.events.ctx, in->socket, &p);
    free(room);
}

static void fake_dispatch(struct io *io)
{
    struct fake_io *f = fake_of(io);
    for (unsigned i = 0; i < f->in_count; i++)
        if (!f->in[i].socket->removing)
            deliver(f, &f->in[i]);
    f->in_count = 0;
    io_streams_tell(io);
    while (f->removing_count) {
        struct io_socket *s = f->removing[--f->removing_count];
        close(s->fd);
        f->sockets--;
        s->handler->on_closed(f->io.events.ctx, s);
    }
}

static void fake_wake(struct io *io)
{
    (void)io;
}

static const struct io_ops fake_ops = {
    .stop = fake_stop,
    .destroy = fake_destroy,
    .wait = fake_wait,
    .dispatch = fake_dispatch,
    .wake = fake_wake,
};

static const struct io_dgram_ops fake_dgram_ops = {
    .add = fake_add,
    .remove = fake_remove,
    .send = fake_send,
    .scratch = fake_scratch,
};

struct io *fake_io_create(const struct io_events *events)
{
    struct fake_io *f = calloc(1, sizeof(*f));
    if (!f)
        abort();
    f->io = (struct io){.ops = &fake_ops, .dgram = &fake_dgram_ops, .events = *events};
    if (io_streams_open(&f->io) != 0)
        abort();
    return &f->io;
}

void fake_io_deliver(struct io *io, struct io_socket *s, const struct addr *from,
                     const struct addr *dest, const void *data, size_t len)
{
    struct fake_io *f = fake_of(io);
    if (f->in_count == QUEUE || len > ROOM)
        abort();
    struct fake_packet *p = &f->in[f->in_count++];
    *p = (struct fake_packet){.socket = s, .from = *from, .len = len};
    if (dest)
        p->dest = *dest;
    if (len)
        memcpy(p->data, data, len);
}

void fake_io_refuse(struct io *io, bool refused)
{
    fake_of(io)->refuses = refused;
}

void fake_io_crowd(struct io *io, bool crowded)
{
    fake_of(io)->crowded = crowded;
}

void fake_io_icmp(struct io *io, struct io_socket *s, const struct io_icmp *icmp)
{
    s->handler->on_icmp(io->events.ctx, s, icmp);
}

bool fake_io_take(struct io *io, struct fake_sent *out)
{
    struct fake_io *f = fake_of(io);
    if (!f->out_count)
        return false;
    *out = f->out[f->out_first];
    f->out_first = (f->out_first + 1) % QUEUE;
    f->out_count--;
    return true;
}

bool fake_io_unsend(struct io *io, int err)
{
    struct fake_sent out;
    if (!fake_io_take(io, &out))
        return false;
    /* What comes without room goes with its head apart: no more of it is looked at than that. */
    size_t start = fake_of(io)->crowded ? IO_HEAD_LEN : out.len;
    struct io_unsent u = {.err = err,
                          .to = &out.to,
                          .from = &out.from,
                          .start = out.data,
                          .start_len = MIN(start, out.len),
                          .len = out.len};
    out.socket->handler->on_unsent(io->events.ctx, out.socket, &u);
    return true;
}

unsigned fake_io_sockets(struct io *io)
{
    return fake_of(io)->sockets;
}
