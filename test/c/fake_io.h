/*
 * io.h without a kernel: the test delivers datagrams and looks at what was sent, and the clock is
 * whatever the test says. What is delivered waits for io_dispatch; what is removed is closed there.
 * Streams are real ones: the test has the other end.
 */
#ifndef MEERKAT_FAKE_IO_H
#define MEERKAT_FAKE_IO_H

#include "io_dgram.h"

struct fake_sent {
    struct io_socket *socket;
    struct addr to;
    struct addr from; /* family 0: left to the kernel */
    unsigned flags;
    size_t len;
    uint8_t data[2048];
};

struct io *fake_io_create(const struct io_events *events);

/* The socket must be known to the io. */
void fake_io_deliver(struct io *io, struct io_socket *s, const struct addr *from,
                     const struct addr *dest, const void *data, size_t len);

/* From now on datagrams come without room around them, as the segments of GRO do; or with it. */
void fake_io_crowd(struct io *io, bool crowded);

/* From now on no socket is taken (-ENOSPC); or each is. */
void fake_io_refuse(struct io *io, bool refused);

/* ICMP says something of a datagram sent; heard at once. */
void fake_io_icmp(struct io *io, struct io_socket *s, const struct io_icmp *icmp);

/* The oldest datagram sent and not yet taken; false when there is none. */
bool fake_io_take(struct io *io, struct fake_sent *out);

/* Takes the oldest out as fake_io_take does, and tells its socket's owner that it was not sent. */
bool fake_io_unsend(struct io *io, int err);

/* Sockets added and not closed yet. */
unsigned fake_io_sockets(struct io *io);

#endif
