/*
 * Stream sockets of an io, listening ones and connections: it tells their owner when they may be
 * read or written again. Reading, writing and accepting are the owner's plain system calls: with
 * everything that waits for a client in one of them they are few, and the same on every backend.
 *
 * Told is told once: the owner reads until nothing is left, or asks to be told again.
 */
#ifndef MEERKAT_IO_STREAM_H
#define MEERKAT_IO_STREAM_H

#include "io.h"
#include "list.h"

struct io_stream;

/* What a stream's owner does when something happens to it. Each gets the ctx of io_events. */
struct io_stream_handler {
    /* There may be something to read, and there may be room to write. ended: the other side may
     * have hung up, so that the end is behind what can be read. io_stream_remove may be called
     * here, and the owner may go. */
    void (*on_ready)(void *ctx, struct io_stream *s, bool ended);
};

/* Embedded in its owner, who fills in fd and handler and finds itself again by container_of. */
struct io_stream {
    int fd; /* nonblocking */
    const struct io_stream_handler *handler;
    struct list again; /* in the io's, where it is to be told of again */
};

/* 0 or -errno. The descriptor stays the caller's. */
int io_stream_add(struct io *io, struct io_stream *s);
/* Nothing is told of it from now on; to be called before its descriptor is closed or handed on. */
void io_stream_remove(struct io *io, struct io_stream *s);
/* Tells of it again in the next turn, which then does not sleep before. */
void io_stream_again(struct io *io, struct io_stream *s);

/* ------------------------------------------------------------------------------ for backends */

/* Opens what readiness comes by, io->streams. 0 or -errno. */
int io_streams_open(struct io *io);
void io_streams_close(struct io *io);
/* Is somebody to be told of though nothing happens? Then the wait must not sleep. */
static inline bool io_streams_hungry(const struct io *io)
{
    return !io->held && !list_empty(&io->streams.again);
}
/* Tells of all that are ready. The backend has set io->streams.ready where the descriptor has
 * become readable. */
void io_streams_tell(struct io *io);
static inline void io_streams_dispatch(struct io *io)
{
    if (UNLIKELY((io->streams.ready && !io->held) || io_streams_hungry(io)))
        io_streams_tell(io);
}

#endif
