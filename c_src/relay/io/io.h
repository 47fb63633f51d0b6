/*
 * The seam between the relay and the kernel, its life and waiting. A worker owns one `struct io`;
 * behind it stands io_uring (uring.h) or, where that is refused, epoll (epoll.h); in tests a script
 * with a clock of its own (test/c/fake_io.c). What is moved through it is said elsewhere: datagrams
 * in io_dgram.h, streams in io_stream.h. Knows nothing about what the bytes mean.
 *
 * One turn of a worker: io_wait() submits what was prepared and sleeps; io_dispatch() calls the
 * handlers of sockets to which something happened; whatever is sent meanwhile goes out at the next
 * io_wait().
 */
#ifndef MEERKAT_IO_H
#define MEERKAT_IO_H

#include "list.h"

struct io;
struct io_socket;
struct io_dgram_ops;
struct epoll_event;

enum io_trouble {
    IO_NO_BUFFERS,   /* receive buffers ran out: what waits is received later */
    IO_RECEIVE,      /* the kernel failed to receive, and is asked again */
    IO_SEND_UNKNOWN, /* a datagram was not sent, and nobody knows any more which */
};

/* What is no single socket's owner to handle. */
struct io_events {
    void *ctx; /* every handler gets it */
    void (*on_trouble)(void *ctx, enum io_trouble what, int err);
    /* So many datagrams more were lost, for the socket's receive buffer was full. Comes with the
     * next one that is not. */
    void (*on_lost)(void *ctx, struct io_socket *s, uint32_t n);
};

struct io_ops {
    void (*stop)(struct io *io);
    void (*destroy)(struct io *io);
    void (*wait)(struct io *io, uint64_t timeout_ns);
    void (*dispatch)(struct io *io);
    void (*wake)(struct io *io);
    void (*hold)(struct io *io);
    void (*go_on)(struct io *io);
    bool (*is_still)(struct io *io);
};

/* What a backend counts, from its start on. */
struct io_counts {
    uint64_t gso_runs, gso_datagrams; /* sent in one piece, and datagrams that were in them */
    uint64_t gso_refused;
    uint64_t gro_runs, gro_datagrams; /* likewise received */
};

/* Of io_stream.c. */
struct io_streams {
    int fd;            /* readable while one of them is ready */
    bool ready;        /* the backend has seen that */
    struct list again; /* to be told of again */
    struct epoll_event *told;
    int told_count;
};

struct io {
    const struct io_ops *ops;
    const struct io_dgram_ops *dgram;
    struct io_streams streams;
    struct io_events events;
    bool held;               /* nothing is received */
    uint32_t settled;        /* times that all that was sent from memory was over */
    struct io_counts counts; /* of its own thread; read between two turns */
};

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

/* Submits, then sleeps until something is there, timeout_ns passed or io_wake was called. */
static inline void io_wait(struct io *io, uint64_t timeout_ns)
{
    io->ops->wait(io, timeout_ns);
}

static inline void io_dispatch(struct io *io)
{
    io->ops->dispatch(io);
}

/* No datagram is received any more, and nobody is told of a stream, of those there are and those
 * that are added, until io_go_on: what comes waits in the sockets' own buffers. What was received
 * by then is delivered still; io_is_still says when that is over. Datagrams are sent as before. */
static inline void io_hold(struct io *io)
{
    io->ops->hold(io);
}

static inline void io_go_on(struct io *io)
{
    io->ops->go_on(io);
}

static inline bool io_is_still(struct io *io)
{
    return io->ops->is_still(io);
}

/* Ends the io_wait that runs, or the next. From any thread. */
static inline void io_wake(struct io *io)
{
    io->ops->wake(io);
}

#endif
