/*
 * The seam between the relay and the kernel: datagrams in, datagrams out, wake-ups, and nothing
 * about what they mean. A worker owns one `struct io`; behind it stands io_uring (uring.c) or,
 * where that is refused, epoll (epoll.c); in tests a script with a clock of its own
 * (test/c/fake_io.c).
 *
 * One turn of a worker: io_wait() submits what was prepared and sleeps; io_dispatch() calls
 * on_packet for each datagram received; whatever is sent meanwhile goes out at the next io_wait().
 */
#ifndef MEERKAT_IO_H
#define MEERKAT_IO_H

#include "addr.h"

enum {
    IO_HEADROOM = 64, /* writable bytes before a received payload */
    IO_TAILROOM = 8,  /* and behind it */
    IO_HEAD_LEN = 4,  /* of what may be sent before a payload without room */
};

/* A socket known to an io. Embedded in its owner, who fills fd and cookie before io_add and finds
 * itself again by container_of. Belongs to the io until on_closed. */
struct io_socket {
    int fd;
    uint32_t slot;     /* the io's own */
    uint8_t kind;      /* the owner's: which handler */
    bool wants_dest;   /* report where datagrams were sent to, and obey `from` when sending */
    bool wants_errors; /* report ICMP errors (IP_RECVERR is set); they cost no datagram */
    bool removing;
    bool armed;
    uint32_t lost; /* datagrams its receive buffer had no room for, as last told */
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

enum io_send_flags { IO_DONT_FRAGMENT = 1 };

struct io;

struct io_events {
    void *ctx;
    void (*on_packet)(void *ctx, struct io_socket *s, struct io_packet *p);
    void (*on_icmp)(void *ctx, struct io_socket *s, const struct io_icmp *icmp);
    /* After io_remove: the descriptor is closed, no packet will come, the owner may go. */
    void (*on_closed)(void *ctx, struct io_socket *s);
    /* A datagram the kernel refused to send, or receive buffers that ran out (err ENOBUFS, s NULL).
     * May come while io_send runs. */
    void (*on_error)(void *ctx, struct io_socket *s, int err);
    /* So many datagrams more were lost, for the socket's receive buffer was full. Comes with the
     * next one that is not. */
    void (*on_lost)(void *ctx, struct io_socket *s, uint32_t n);
};

struct io_ops {
    void (*stop)(struct io *io);
    void (*destroy)(struct io *io);
    int (*add)(struct io *io, struct io_socket *s);
    void (*remove)(struct io *io, struct io_socket *s);
    void (*send)(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                 size_t len, const struct addr *to, const struct addr *from, unsigned flags);
    uint8_t *(*scratch)(struct io *io, size_t len);
    void (*wait)(struct io *io, uint64_t timeout_ns);
    void (*dispatch)(struct io *io);
    void (*wake)(struct io *io);
};

/* What a backend counts, from its start on. */
struct io_counts {
    uint64_t gso_runs, gso_datagrams; /* sent in one piece, and datagrams that were in them */
    uint64_t gso_refused;
    uint64_t gro_runs, gro_datagrams; /* likewise received */
};

struct io {
    const struct io_ops *ops;
    struct io_events events;
    struct io_counts counts; /* of its own thread; read between two turns */
};

/* io_uring. To be called by the thread that will use it. 0 or -errno. */
int uring_create(struct io **out, const struct io_events *events, uint32_t sockets_max);

/* epoll: the same with older means. 0 or -errno. */
int epoll_io_create(struct io **out, const struct io_events *events, uint32_t sockets_max);

/* Closes every socket, so that their ports are free when this returns. By the thread that used the
 * io, and the last it does with it but for io_wake. */
static inline void io_stop(struct io *io)
{
    io->ops->stop(io);
}

static inline void io_destroy(struct io *io)
{
    io->ops->destroy(io);
}

/* Starts receiving on s->fd, which the io closes in the end. 0 or -errno: then the fd is still
 * the caller's. */
static inline int io_add(struct io *io, struct io_socket *s)
{
    s->lost = 0;
    return io->ops->add(io, s);
}

/* Two-phase: on_packet is not called for s any more from now on, on_closed once, later. */
static inline void io_remove(struct io *io, struct io_socket *s)
{
    io->ops->remove(io, s);
}

/* Sends a datagram. data lies in the packet being handled or in io_scratch. `from`, where it is
 * not NULL and s->wants_dest, is the local IP it leaves from. Failure is reported by on_error. With
 * IO_DONT_FRAGMENT it leaves whole or not at all, which costs two system calls more. */
static inline void io_send(struct io *io, struct io_socket *s, const uint8_t *data, size_t len,
                           const struct addr *to, const struct addr *from, unsigned flags)
{
    io->ops->send(io, s, NULL, data, len, to, from, flags);
}

/* The same with IO_HEAD_LEN bytes, which are copied, before the data: for packets without room. */
static inline void io_send_headed(struct io *io, struct io_socket *s, const uint8_t *head,
                                  const uint8_t *data, size_t len, const struct addr *to,
                                  const struct addr *from)
{
    io->ops->send(io, s, head, data, len, to, from, 0);
}

/* Room for a datagram of up to 64 KiB to be built and sent; good until the next io_wait. */
static inline uint8_t *io_scratch(struct io *io, size_t len)
{
    return io->ops->scratch(io, len);
}

/* Submits, then sleeps until something is there, timeout_ns passed or io_wake was called. */
static inline void io_wait(struct io *io, uint64_t timeout_ns)
{
    io->ops->wait(io, timeout_ns);
}

static inline void io_dispatch(struct io *io)
{
    io->ops->dispatch(io);
}

/* Ends the io_wait that runs, or the next. From any thread. */
static inline void io_wake(struct io *io)
{
    io->ops->wake(io);
}

#endif
