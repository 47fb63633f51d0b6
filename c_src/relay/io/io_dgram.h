/*
 * Datagrams in, datagrams out, on the sockets an io was given. Who owns a socket puts what is to
 * happen into it; the io knows no owner.
 */
#ifndef MEERKAT_IO_DGRAM_H
#define MEERKAT_IO_DGRAM_H

#include "addr.h"
#include "io.h"

enum {
    IO_HEADROOM = 64, /* writable bytes before a received payload */
    IO_TAILROOM = 8,  /* and behind it */
    IO_HEAD_LEN = 4,  /* of what may be sent before a payload without room */
};

/* A received datagram. data may be changed in place, with the room around it, until the next
 * io_wait(); it may be sent from without a copy. Datagrams of one flow that came in one piece (GRO)
 * lie back to back: they have no room, and what is around them is not theirs. */
struct io_packet {
    uint8_t *data;
    size_t len;
    struct addr from;
    struct addr dest; /* local IP it was sent to, port 0; no address unless wants_dest */
    bool truncated;
    bool roomy; /* IO_HEADROOM before data and IO_TAILROOM behind are there */
};

/* What the network said of a datagram sent: ICMP of the peer's family. */
struct io_icmp {
    struct addr peer; /* where the datagram was going */
    uint8_t type, code;
    uint32_t mtu; /* of "too big" messages, else 0 */
};

/* A datagram the kernel refused to send. */
struct io_unsent {
    int err;
    const struct addr *to, *from; /* from: no address where that was left to the kernel */
    const uint8_t *start;         /* its beginning, so many bytes of it ... */
    size_t start_len;
    size_t len; /* ... and all of them */
};

/* What a socket's owner does when something happens to it. Each gets the ctx of io_events. */
struct io_handler {
    void (*on_packet)(void *ctx, struct io_socket *s, struct io_packet *p);
    /* Of sockets with wants_errors alone. */
    void (*on_icmp)(void *ctx, struct io_socket *s, const struct io_icmp *icmp);
    /* After io_remove: the descriptor is closed, no packet will come, the owner may go. */
    void (*on_closed)(void *ctx, struct io_socket *s);
    /* May come while something else is sent, and until on_closed. */
    void (*on_unsent)(void *ctx, struct io_socket *s, const struct io_unsent *u);
};

/* A socket known to an io. Embedded in its owner, who fills fd, handler and what it wants before
 * io_add and finds itself again by container_of. Belongs to the io until on_closed. */
struct io_socket {
    int fd;
    uint32_t slot; /* the io's own */
    const struct io_handler *handler;
    bool wants_dest;   /* report where datagrams were sent to, and obey `from` when sending */
    bool wants_errors; /* report ICMP errors (IP_RECVERR is set); they cost no datagram */
    bool first;        /* is received from before others are, where receiving had to stop */
    bool whole;        /* what is sent may not be fragmented: how the option stands now */
    bool removing;
    bool armed;
    uint32_t lost; /* datagrams its receive buffer had no room for, as last told: 0 for a new one */
};

enum io_send_flags { IO_DONT_FRAGMENT = 1 };

struct io_dgram_ops {
    int (*add)(struct io *io, struct io_socket *s);
    void (*remove)(struct io *io, struct io_socket *s);
    void (*send)(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                 size_t len, const struct addr *to, const struct addr *from, unsigned flags);
    uint8_t *(*scratch)(struct io *io, size_t len);
};

/* Starts receiving on s->fd, which the io closes in the end. 0 or -errno: then the fd is still
 * the caller's. */
static inline int io_add(struct io *io, struct io_socket *s)
{
    return io->dgram->add(io, s);
}

/* Two-phase: on_packet is not called for s any more from now on, on_closed once, later. */
static inline void io_remove(struct io *io, struct io_socket *s)
{
    io->dgram->remove(io, s);
}

/* Sends a datagram. data lies in the packet being handled or in io_scratch. `from`, where it is
 * not NULL and s->wants_dest, is the local IP it leaves from. Failure is told by on_unsent. With
 * IO_DONT_FRAGMENT it leaves whole or not at all; a datagram that differs in this from the last one
 * of its socket costs a system call, and all that was prepared is sent before it. */
static inline void io_send(struct io *io, struct io_socket *s, const uint8_t *data, size_t len,
                           const struct addr *to, const struct addr *from, unsigned flags)
{
    io->dgram->send(io, s, NULL, data, len, to, from, flags);
}

/* The same with IO_HEAD_LEN bytes, which are copied, before the data: for packets without room. */
static inline void io_send_headed(struct io *io, struct io_socket *s, const uint8_t *head,
                                  const uint8_t *data, size_t len, const struct addr *to,
                                  const struct addr *from)
{
    io->dgram->send(io, s, head, data, len, to, from, 0);
}

/* Room for a datagram of up to 64 KiB to be built and sent; good until the next io_wait. */
static inline uint8_t *io_scratch(struct io *io, size_t len)
{
    return io->dgram->scratch(io, len);
}

#endif
