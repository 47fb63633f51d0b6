/*
 * What the programs about io.h share: the backend under test, its socket's handler, which keeps
 * what it heard, and plain sockets of loopback to talk with. Header only, as test.h is, for its
 * checks count.
 */
#ifndef MEERKAT_IO_KIT_H
#define MEERKAT_IO_KIT_H

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "epoll.h"
#include "io_dgram.h"
#include "socket.h"
#include "test.h"
#include "uring.h"

enum { KEPT = 128 };

struct heard {
    unsigned packets, closed, errors, icmps, crowded, lost, unsent;
    size_t unsent_bytes;
    int unsent_err;
    uint8_t unsent_start; /* the first byte of what is not sent */
    size_t len;
    size_t lens[KEPT]; /* of the first */
    uint32_t sums[KEPT];
    uint8_t data[65536];
    struct addr from, dest;
    struct io_icmp icmp;
    bool echo;
    const uint8_t *head; /* of what is echoed */
};

/* The backend under test. */
static int (*create)(struct io **out, const struct io_events *events, uint32_t sockets_max);
static struct io *io;
static struct heard h;

static inline uint32_t sum(const uint8_t *p, size_t len)
{
    uint32_t x = 1;
    while (len--)
        x = x * 31 + *p++;
    return x;
}

static inline void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
{
    (void)ctx;
    if (h.packets < KEPT) {
        h.lens[h.packets] = p->len;
        h.sums[h.packets] = sum(p->data, p->len);
    }
    h.packets++;
    h.crowded += !p->roomy;
    h.len = p->len;
    h.from = p->from;
    h.dest = p->dest;
    memcpy(h.data, p->data, p->len);
    if (p->roomy) { /* it is ours to write */
        memset(p->data - IO_HEADROOM, 0xee, IO_HEADROOM);
        memset(p->data + p->len, 0xee, IO_TAILROOM);
    }
    if (h.head)
        io_send_headed(io, s, h.head, p->data, p->len, &p->from, &p->dest);
    else if (h.echo)
        io_send(io, s, p->data, p->len, &p->from, &p->dest, 0);
}

static inline void on_icmp(void *ctx, struct io_socket *s, const struct io_icmp *icmp)
{
    (void)ctx;
    (void)s;
    h.icmps++;
    h.icmp = *icmp;
}

static inline void on_closed(void *ctx, struct io_socket *s)
{
    (void)ctx;
    (void)s;
    h.closed++;
}

static inline void on_lost(void *ctx, struct io_socket *s, uint32_t n)
{
    (void)ctx;
    (void)s;
    h.lost += n;
}

static inline void on_trouble(void *ctx, enum io_trouble what, int err)
{
    (void)ctx;
    (void)what;
    (void)err;
    h.errors++;
}

static inline void on_unsent(void *ctx, struct io_socket *s, const struct io_unsent *u)
{
    (void)ctx;
    (void)s;
    h.errors++;
    h.unsent++;
    h.unsent_bytes += u->len;
    h.unsent_err = u->err;
    CHECK(u->start_len > 0 && u->start_len <= u->len);
    CHECK_EQ(u->start[0], h.unsent_start);
}

static const struct io_handler handler = {on_packet, on_icmp, on_closed, on_unsent};

static inline void start_with(uint32_t sockets)
{
    const struct io_events events = {NULL, on_trouble, on_lost};
    memset(&h, 0, sizeof(h));
    CHECK_EQ(create(&io, &events, sockets), 0);
}

static inline void start(void)
{
    start_with(16);
}

/* Whether a wait that began at `since` may go on: the bound only ends a test that fails. */
static inline bool may_wait(uint64_t since)
{
    return clock_read().now - since < 30 * NS_PER_S * CLOCK_SPEED;
}

static inline void turn_for(uint64_t ns)
{
    io_wait(io, ns);
    io_dispatch(io);
}

static inline void turn(void)
{
    turn_for(0);
}

/* Turns until the counter has the value. */
static inline void turn_until(const unsigned *counter, unsigned value)
{
    uint64_t since = clock_read().now;
    while (*counter < value && may_wait(since))
        turn_for(10 * NS_PER_MS);
    CHECK_EQ(*counter, value);
}

/* The next datagram of a plain socket. Turns until it is there: the kernel need not take all that
 * is sent in the turn it was sent in. */
static inline ssize_t awaited_from(int fd, void *buf, size_t len, struct addr *from)
{
    struct sockaddr_storage ss;
    socklen_t ss_len = sizeof(ss);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t since = clock_read().now;
    while (poll(&p, 1, 10) == 0 && may_wait(since))
        turn();
    ssize_t ret = recvfrom(fd, buf, len, MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_len);
    if (from && ret >= 0)
        CHECK(addr_from_sockaddr(from, (struct sockaddr *)&ss, ss_len));
    return ret;
}

static inline ssize_t awaited(int fd, void *buf, size_t len)
{
    return awaited_from(fd, buf, len, NULL);
}

static inline struct addr bound(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr a = {0};
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    CHECK(addr_from_sockaddr(&a, (struct sockaddr *)&ss, len));
    return a;
}

static inline int open_at(const char *ip)
{
    struct addr a = {0};
    CHECK(addr_parse(&a, ip, 0));
    int fd = socket_open_relayed(&a, NULL);
    CHECK(fd >= 0);
    return fd;
}

/* A plain socket of the test's, which sees datagrams one by one. */
static inline int plain_at(const char *ip, struct addr *bound_to)
{
    struct addr a = {0};
    struct sockaddr_storage ss;
    CHECK(addr_parse(&a, ip, 0));
    socklen_t len = addr_to_sockaddr(&a, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), value = 8 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &value, sizeof(value));
    CHECK_EQ(bind(fd, (struct sockaddr *)&ss, len), 0);
    *bound_to = bound(fd);
    return fd;
}

static inline void send_from(int fd, const struct addr *to, const void *data, size_t len)
{
    struct sockaddr_storage ss;
    socklen_t ss_len = addr_to_sockaddr(to, &ss);
    CHECK_EQ(sendto(fd, data, len, 0, (struct sockaddr *)&ss, ss_len), (ssize_t)len);
}

static inline void close_socket(struct io_socket *s)
{
    unsigned before = h.closed;
    io_remove(io, s);
    turn_until(&h.closed, before + 1);
    CHECK_EQ(s->fd, -1);
}

/* Names the checks that follow by the function that makes them. */
#define RUN(f) (test_begin(#f), f())

#endif
