/*
 * io.h on the real kernel, by io_uring and by epoll, and real sockets of loopback: what is sent
 * arrives, from where it should; reception survives whatever interrupts it; ICMP is heard and costs
 * nothing.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "epoll.h"
#include "io_dgram.h"
#include "io_stream.h"
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

static uint32_t sum(const uint8_t *p, size_t len)
{
    uint32_t x = 1;
    while (len--)
        x = x * 31 + *p++;
    return x;
}

static void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
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

static void on_icmp(void *ctx, struct io_socket *s, const struct io_icmp *icmp)
{
    (void)ctx;
    (void)s;
    h.icmps++;
    h.icmp = *icmp;
}

static void on_closed(void *ctx, struct io_socket *s)
{
    (void)ctx;
    (void)s;
    h.closed++;
}

static void on_lost(void *ctx, struct io_socket *s, uint32_t n)
{
    (void)ctx;
    (void)s;
    h.lost += n;
}

static void on_trouble(void *ctx, enum io_trouble what, int err)
{
    (void)ctx;
    (void)what;
    (void)err;
    h.errors++;
}

static void on_unsent(void *ctx, struct io_socket *s, const struct io_unsent *u)
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

static void start_with(uint32_t sockets)
{
    const struct io_events events = {NULL, on_trouble, on_lost};
    memset(&h, 0, sizeof(h));
    CHECK_EQ(create(&io, &events, sockets), 0);
}

static void start(void)
{
    start_with(16);
}

/* Whether a wait that began at `since` may go on: the bound only ends a test that fails. */
static bool may_wait(uint64_t since)
{
    return clock_read().now - since < 30 * NS_PER_S * CLOCK_SPEED;
}

static void turn_for(uint64_t ns)
{
    io_wait(io, ns);
    io_dispatch(io);
}

static void turn(void)
{
    turn_for(0);
}

/* Turns until the counter has the value. */
static void turn_until(const unsigned *counter, unsigned value)
{
    uint64_t since = clock_read().now;
    while (*counter < value && may_wait(since))
        turn_for(10 * NS_PER_MS);
    CHECK_EQ(*counter, value);
}

/* The next datagram of a plain socket. Turns until it is there: the kernel need not take all that
 * is sent in the turn it was sent in. */
static ssize_t awaited_from(int fd, void *buf, size_t len, struct addr *from)
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

static ssize_t awaited(int fd, void *buf, size_t len)
{
    return awaited_from(fd, buf, len, NULL);
}

static struct addr bound(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr a = {0};
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    CHECK(addr_from_sockaddr(&a, (struct sockaddr *)&ss, len));
    return a;
}

static int open_at(const char *ip)
{
    struct addr a = {0};
    CHECK(addr_parse(&a, ip, 0));
    int fd = socket_open_relayed(&a, NULL);
    CHECK(fd >= 0);
    return fd;
}

/* A plain socket of the test's, which sees datagrams one by one. */
static int plain_at(const char *ip, struct addr *bound_to)
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

static void send_from(int fd, const struct addr *to, const void *data, size_t len)
{
    struct sockaddr_storage ss;
    socklen_t ss_len = addr_to_sockaddr(to, &ss);
    CHECK_EQ(sendto(fd, data, len, 0, (struct sockaddr *)&ss, ss_len), (ssize_t)len);
}

static void close_socket(struct io_socket *s)
{
    unsigned before = h.closed;
    io_remove(io, s);
    turn_until(&h.closed, before + 1);
    CHECK_EQ(s->fd, -1);
}

static void echo(const char *ip)
{
    start();
    h.echo = true;
    struct io_socket s = {.handler = &handler, .fd = open_at(ip)};
    struct addr here = bound(s.fd);
    int peer = open_at(ip);
    CHECK_EQ(io_add(io, &s), 0);
    static uint8_t out[60000], back[65536];
    static const size_t sizes[] = {1, 0, 160, 1200, 0, 9000, 60000};
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        memset(out, (int)i + 1, sizes[i]);
        send_from(peer, &here, out, sizes[i]);
        turn_until(&h.packets,
                   ++n); /* an empty datagram ends a multishot: it goes on all the same */
        CHECK_EQ(h.len, sizes[i]);
        CHECK_MEM(h.data, out, sizes[i]);
        turn();
        CHECK_EQ(awaited(peer, back, sizeof(back)), (ssize_t)sizes[i]);
        CHECK_MEM(back, out, sizes[i]);
    }
    CHECK_EQ(h.errors, 0);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

static void echo_over_both_families(void)
{
    echo(test_loopback());
    echo("::1");
}

static void s15_a_wildcard_answers_from_where_it_was_asked(void)
{
    start();
    h.echo = true;
    struct addr any;
    int fd;
    CHECK(addr_parse(&any, "0.0.0.0", 0));
    CHECK_EQ(socket_open_group(SOCK_DGRAM, &any, 1, NULL, &fd), 0);
    struct io_socket s = {.handler = &handler, .fd = fd, .wants_dest = true};
    CHECK_EQ(io_add(io, &s), 0);
    int peer = open_at(test_loopback());
    struct addr asked, answered;
    CHECK(addr_parse(&asked, "127.0.0.77", any.port));
    send_from(peer, &asked, "hello", 5);
    turn_until(&h.packets, 1);
    CHECK(addr_ip_equal(&h.dest, &asked));
    turn();
    char buf[16];
    CHECK_EQ(awaited_from(peer, buf, sizeof(buf), &answered), 5);
    CHECK(addr_equal(&answered, &asked));
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

/* More in one turn than there are submission entries, scratch or receive buffers for. */
static void a_burst_larger_than_every_table_gets_through(void)
{
    enum { N = 3000, LEN = 1000 };
    start();
    struct io_socket s = {.handler = &handler, .fd = open_at(test_loopback())};
    CHECK_EQ(io_add(io, &s), 0);
    struct addr to;
    int peer = plain_at(test_loopback(), &to);
    for (uint32_t i = 0; i < N; i++) {
        uint8_t *p = io_scratch(io, LEN);
        memset(p, 0, LEN);
        memcpy(p, &i, sizeof(i));
        io_send(io, &s, p, LEN, &to, NULL, 0);
    }
    turn();
    unsigned got = 0, wrong = 0;
    uint32_t number;
    uint8_t buf[LEN];
    while (got < N && awaited(peer, buf, sizeof(buf)) == LEN) {
        memcpy(&number, buf, sizeof(number));
        wrong += number != got++;
    }
    CHECK_EQ(got, N);
    CHECK_EQ(wrong, 0);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

static void received_bursts_use_every_buffer_and_go_on(void)
{
    enum { N = 5000 };
    start();
    struct io_socket s = {.handler = &handler, .fd = open_at(test_loopback())};
    int value = 16 << 20, peer = open_at(test_loopback());
    setsockopt(s.fd, SOL_SOCKET, SO_RCVBUFFORCE, &value, sizeof(value));
    struct addr here = bound(s.fd);
    CHECK_EQ(io_add(io, &s), 0);
    io_wait(io, 0);
    for (unsigned i = 0; i < N; i++)
        send_from(peer, &here, &i, sizeof(i));
    turn_until(&h.packets, N);
    unsigned last;
    memcpy(&last, h.data, sizeof(last));
    CHECK_EQ(last, N - 1);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

/* What a full receive buffer costs is told with the next datagram there is room for. */
static void losses_of_the_socket_are_told(void)
{
    enum { N = 500 };
    start();
    struct io_socket s = {.handler = &handler, .fd = open_at(test_loopback())};
    int value = 8192, peer = open_at(test_loopback());
    setsockopt(s.fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value));
    struct addr here = bound(s.fd);
    CHECK_EQ(io_add(io, &s), 0);
    unsigned total = 0;
    for (unsigned round = 1; round <= 2; round++) {
        unsigned before = h.lost, sent = 0;
        while (sent < N || (h.lost == before && sent < 2 * N)) {
            send_from(peer, &here, &sent, sizeof(sent));
            if (++sent < N)
                continue;
            turn();
        }
        CHECK(h.lost > before);
        total += sent;
    }
    uint64_t since = clock_read().now;
    while (h.packets + h.lost < total && may_wait(since))
        turn_for(10 * NS_PER_MS);
    CHECK_EQ(h.packets + h.lost, total);
    CHECK_EQ(h.errors, 0);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

/* Many sockets have more than there are buffers: receives end for want of them (ENOBUFS) and go on;
 * what the sockets hold is all handed up. */
static void x105_nothing_queued_is_lost_when_buffers_run_out(void)
{
    enum { SOCKETS = 200, EACH = 32 };
    static struct io_socket s[SOCKETS];
    struct addr there;
    start_with(SOCKETS);
    int peer = plain_at(test_loopback(), &there);
    for (int i = 0; i < SOCKETS; i++) {
        s[i] = (struct io_socket){.handler = &handler, .fd = open_at(test_loopback())};
        struct addr here = bound(s[i].fd);
        for (int k = 0; k < EACH; k++)
            send_from(peer, &here, "datagram", 8);
        CHECK_EQ(io_add(io, &s[i]), 0);
    }
    turn_until(&h.packets, SOCKETS * EACH);
    /* Of io_uring's they did run out, or this test shows nothing; epoll sends and starts anew. */
    CHECK_EQ(h.errors > 0, create == uring_create);
    for (int i = 0; i < SOCKETS; i++)
        close_socket(&s[i]);
    close(peer);
    io_destroy(io);
}

/* More sockets than the completion queue has places end their receives at once: the kernel keeps
 * what does not fit, each is started again, and what lay in them is all handed up. */
static void x106_nothing_is_lost_when_completions_overflow(void)
{
    enum { SOCKETS = 9000 }; /* uring.h: 8192 places */
    struct rlimit files;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    if (files.rlim_max < SOCKETS + 100) {
        puts("io: too few files are allowed to make the completion queue overflow");
        return;
    }
    struct addr there;
    start_with(SOCKETS);
    struct io_socket *s = calloc(SOCKETS, sizeof(*s));
    int peer = plain_at(test_loopback(), &there);
    for (int i = 0; i < SOCKETS; i++) {
        s[i] = (struct io_socket){.handler = &handler, .fd = open_at(test_loopback())};
        struct addr here = bound(s[i].fd);
        send_from(peer, &here, &i, sizeof(i));
        CHECK_EQ(io_add(io, &s[i]), 0);
    }
    turn_until(&h.packets, SOCKETS);
    for (int i = 0; i < SOCKETS; i++)
        io_remove(io, &s[i]);
    turn_until(&h.closed, SOCKETS);
    free(s);
    close(peer);
    io_destroy(io);
}

/* Sockets leave, and others take their places, while receives wait to be started again. */
static void x105_places_are_used_again_while_buffers_run_out(void)
{
    enum { SOCKETS = 100, EACH = 32 };
    static struct io_socket s[SOCKETS];
    struct addr there;
    start_with(SOCKETS);
    int peer = plain_at(test_loopback(), &there);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SOCKETS; i++) {
            s[i] = (struct io_socket){.handler = &handler, .fd = open_at(test_loopback())};
            struct addr here = bound(s[i].fd);
            for (int k = 0; k < EACH; k++)
                send_from(peer, &here, "datagram", 8);
            CHECK_EQ(io_add(io, &s[i]), 0);
        }
        if (round == 2)
            break;
        turn();
        unsigned before = h.closed;
        for (int i = 0; i < SOCKETS; i++)
            io_remove(io, &s[i]);
        turn_until(&h.closed, before + SOCKETS);
    }
    unsigned before = h.packets;
    turn_until(&h.packets, before + SOCKETS * EACH);
    for (int i = 0; i < SOCKETS; i++)
        close_socket(&s[i]);
    close(peer);
    io_destroy(io);
}

/* ---------------------------------------------------------------------------------------- runs */

/* Sends the bytes as datagrams of `segment` each, in one call; -1 and errno as sendmsg. */
static ssize_t send_run(int fd, const struct addr *to, const void *data, size_t len,
                        uint16_t segment)
{
    struct sockaddr_storage ss;
    struct iovec iov = {(void *)(uintptr_t)data, len};
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(segment))] = {0};
    struct msghdr msg = {.msg_name = &ss,
                         .msg_namelen = addr_to_sockaddr(to, &ss),
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(segment)), SOL_UDP, UDP_SEGMENT};
    memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    return sendmsg(fd, &msg, 0);
}

/* Whether one receive of a socket with UDP_GRO brings all of it: it left as one. */
static void expect_one_piece(int fd, size_t len)
{
    static uint8_t back[65536];
    CHECK_EQ(awaited(fd, back, sizeof(back)), (ssize_t)len);
}

static void a_batch_leaves_in_runs(const char *ip)
{
    enum { N = 20, LEN = 1000, LAST = 300 };
    struct addr there, joined_at;
    uint8_t buf[LEN + 1];
    start();
    struct io_socket s = {.handler = &handler, .fd = open_at(ip)};
    CHECK_EQ(io_add(io, &s), 0);
    int peer = plain_at(ip, &there), joined = open_at(ip); /* this one has UDP_GRO */
    joined_at = bound(joined);
    for (int i = 0; i < N; i++) { /* two flows between one another */
        size_t len = i == N - 1 ? LAST : LEN;
        uint8_t *p = io_scratch(io, LEN);
        memset(p, i, len);
        io_send(io, &s, p, len, &there, NULL, 0);
        io_send(io, &s, p, len, &joined_at, NULL, 0);
    }
    turn();
    for (int i = 0; i < N; i++) {
        CHECK_EQ(awaited(peer, buf, sizeof(buf)), i == N - 1 ? LAST : LEN);
        CHECK_EQ(buf[0], i);
        CHECK_EQ(buf[LAST - 1], i);
    }
    CHECK_EQ(recv(peer, buf, sizeof(buf), MSG_DONTWAIT), -1);
    expect_one_piece(joined, (N - 1) * LEN + LAST);
    CHECK_EQ(h.errors, 0);
    close_socket(&s);
    close(peer);
    close(joined);
    io_destroy(io);
}

static void a_batch_leaves_in_runs_of_both_families(void)
{
    a_batch_leaves_in_runs(test_loopback());
    a_batch_leaves_in_runs("::1");
}

/* What came as one is handed up datagram by datagram, and goes back with heads before each. */
static void what_the_kernel_joined_is_taken_apart(const char *ip)
{
    enum { LEN = 1111, LAST = 77, N = 40 };
    static uint8_t out[N * LEN];
    static const uint8_t head[] = {0x40, 1, 2, 3};
    struct addr there;
    uint8_t buf[LEN + 8];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7 + i / LEN);
    start();
    h.head = head;
    struct io_socket s = {.handler = &handler, .fd = open_at(ip)};
    CHECK_EQ(io_add(io, &s), 0);
    int peer = plain_at(ip, &there);
    struct addr here = bound(s.fd);
    size_t len = (N - 1) * LEN + LAST;
    CHECK_EQ(send_run(peer, &here, out, len, LEN), (ssize_t)len);
    turn_until(&h.packets, N);
    CHECK_EQ(h.crowded, N); /* it did come as one, or this test shows nothing */
    for (int i = 0; i < N; i++) {
        size_t want = i == N - 1 ? LAST : LEN;
        CHECK_EQ(h.lens[i], want);
        CHECK_EQ(h.sums[i], sum(out + i * LEN, want));
    }
    CHECK(addr_equal(&h.from, &there));
    turn();
    for (int i = 0; i < N; i++) {
        size_t want = i == N - 1 ? LAST : LEN;
        CHECK_EQ(awaited(peer, buf, sizeof(buf)), (ssize_t)(want + sizeof(head)));
        CHECK_MEM(buf, head, sizeof(head));
        CHECK_MEM(buf + sizeof(head), out + i * LEN, want);
    }
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

static void joined_datagrams_of_both_families(void)
{
    what_the_kernel_joined_is_taken_apart(test_loopback());
    what_the_kernel_joined_is_taken_apart("::1");
}

/* After the owner has had enough, the rest of a piece is not handed up. */
static struct io_socket *unwanted;

static void remove_at_first(void *ctx, struct io_socket *s, struct io_packet *p)
{
    on_packet(ctx, s, p);
    io_remove(io, unwanted);
}

static void nothing_of_a_joined_piece_comes_after_removal(void)
{
    static uint8_t out[5000];
    struct addr there;
    static const struct io_handler tired = {
        .on_packet = remove_at_first, .on_icmp = on_icmp, .on_closed = on_closed};
    const struct io_events events = {NULL, on_trouble, on_lost};
    memset(&h, 0, sizeof(h));
    CHECK_EQ(create(&io, &events, 16), 0);
    struct io_socket s = {.handler = &tired, .fd = open_at(test_loopback())};
    unwanted = &s;
    CHECK_EQ(io_add(io, &s), 0);
    int peer = plain_at(test_loopback(), &there);
    struct addr here = bound(s.fd);
    CHECK_EQ(send_run(peer, &here, out, sizeof(out), 1000), (ssize_t)sizeof(out));
    turn_until(&h.closed, 1);
    CHECK_EQ(h.packets, 1);
    close(peer);
    io_destroy(io);
}

/* A socket without checksums cannot send runs (EINVAL or EIO by kernel): nothing is lost by it,
 * and nobody else goes without. */
static void a_refused_run_goes_datagram_by_datagram(void)
{
    enum { N = 10, LEN = 900 };
    struct addr there;
    uint8_t buf[LEN + 1], run[2 * LEN] = {0};
    int one = 1;
    start();
    struct io_socket s = {
        .handler = &handler, .fd = open_at(test_loopback()), .wants_errors = true};
    CHECK_EQ(io_add(io, &s), 0);
    int peer = plain_at(test_loopback(), &there);
    CHECK_EQ(setsockopt(s.fd, SOL_SOCKET, SO_NO_CHECK, &one, sizeof(one)), 0);
    CHECK_EQ(send_run(s.fd, &there, run, sizeof(run), LEN), -1); /* or this test shows nothing */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            uint8_t *p = io_scratch(io, LEN);
            memset(p, i, LEN);
            io_send(io, &s, p, LEN, &there, NULL, 0);
        }
        turn();
        for (int i = 0; i < N; i++) {
            CHECK_EQ(awaited(peer, buf, sizeof(buf)), LEN);
            CHECK_EQ(buf[0], i);
        }
    }
    CHECK_EQ(h.errors, 0);
    CHECK_EQ(h.icmps, 0);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

/* What the kernel refuses is told with the datagram, also of a run, and once. */
static void what_is_not_sent_is_told_datagram_by_datagram(bool wants_errors)
{
    enum { N = 5, LEN = 900 };
    struct addr there, nowhere;
    uint8_t buf[LEN + 1], head[IO_HEAD_LEN] = {7};
    start();
    h.unsent_start = 7;
    CHECK(addr_parse(&nowhere, "203.0.113.9", 9)); /* not from a loopback address */
    struct io_socket s = {
        .handler = &handler, .fd = open_at(test_loopback()), .wants_errors = wants_errors};
    CHECK_EQ(io_add(io, &s), 0);
    int peer = plain_at(test_loopback(), &there);
    for (unsigned round = 1; round <= 2; round++) {
        for (int i = 0; i < N; i++)
            io_send(io, &s, memset(io_scratch(io, LEN), 7, LEN), LEN, &nowhere, NULL, 0);
        io_send(io, &s, memset(io_scratch(io, LEN), 1, LEN), LEN, &there, NULL, 0);
        io_send_headed(io, &s, head, memset(io_scratch(io, LEN), 2, LEN), LEN, &nowhere, NULL);
        turn();
        CHECK_EQ(awaited(peer, buf, sizeof(buf)), LEN);
        CHECK_EQ(h.unsent, round * (N + 1));
        CHECK_EQ(h.unsent_bytes, round * ((N + 1) * LEN + IO_HEAD_LEN));
        CHECK(h.unsent_err != 0);
    }
    CHECK_EQ(h.errors, h.unsent);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

static void what_is_not_sent_is_told(void)
{
    what_is_not_sent_is_told_datagram_by_datagram(false);
    what_is_not_sent_is_told_datagram_by_datagram(true);
}

/* ICMP of an earlier datagram is said to a run: the run is sent again, whole. */
static void x29_a_run_survives_what_was_said_of_another(void)
{
    enum { N = 8, LEN = 500 };
    start();
    struct io_socket s = {
        .handler = &handler, .fd = open_at(test_loopback()), .wants_errors = true};
    int joined = open_at(test_loopback()), gone = open_at(test_loopback());
    struct addr there = bound(joined), nobody = bound(gone);
    close(gone);
    CHECK_EQ(io_add(io, &s), 0);
    for (unsigned round = 1; round <= 20; round++) {
        send_from(s.fd, &nobody, "lost", 4);
        for (int i = 0; i < N; i++)
            io_send(io, &s, memset(io_scratch(io, LEN), i, LEN), LEN, &there, NULL, 0);
        turn_until(&h.icmps, round);
        expect_one_piece(joined, N * LEN);
    }
    CHECK_EQ(h.errors, 0);
    close_socket(&s);
    close(joined);
    io_destroy(io);
}

/* An empty datagram ends a multishot: those around it are not lost, nor is their order. */
static void empty_datagrams_between_others(void)
{
    enum { N = 60 };
    struct addr there;
    start();
    struct io_socket s = {.handler = &handler, .fd = open_at(test_loopback())};
    CHECK_EQ(io_add(io, &s), 0);
    turn();
    int peer = plain_at(test_loopback(), &there);
    struct addr here = bound(s.fd);
    uint8_t out[N] = {0};
    for (size_t i = 0; i < N; i++)
        send_from(peer, &here, out, i % 3 ? i : 0);
    turn_until(&h.packets, N);
    for (size_t i = 0; i < N; i++)
        CHECK_EQ(h.lens[i], i % 3 ? i : 0);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

/* A datagram without bytes would end the receive of all clients of a worker. */
static void listeners_are_given_no_empty_datagrams(void)
{
    start();
    struct addr local;
    struct io_socket s = {.handler = &handler};
    CHECK(addr_parse(&local, test_loopback(), 0));
    CHECK_EQ(socket_open_group(SOCK_DGRAM, &local, 1, NULL, &s.fd), 0);
    CHECK_EQ(io_add(io, &s), 0);
    int peer = open_at(test_loopback());
    for (size_t i = 0; i < 100; i++)
        send_from(peer, &local, "", 0);
    send_from(peer, &local, "x", 1);
    turn_until(&h.packets, 1);
    CHECK_EQ(h.packets, 1);
    CHECK_EQ(h.lens[0], 1);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

/* ---------------------------------------------------------------------------------------- ICMP */

/* X29: what ICMP says of one datagram is heard, and takes no other along. */
static void x29_icmp_is_heard_and_costs_nothing(const char *ip, uint8_t type, uint8_t code)
{
    start();
    struct io_socket s = {.handler = &handler, .fd = open_at(ip), .wants_errors = true};
    int peer = open_at(ip), gone = open_at(ip);
    struct addr here = bound(s.fd), there = bound(peer), nobody = bound(gone);
    close(gone);
    CHECK_EQ(io_add(io, &s), 0);
    for (unsigned i = 1; i <= 100; i++) {
        memcpy(io_scratch(io, 4), "lost", 4);
        io_send(io, &s, (const uint8_t *)"lost", 4, &nobody, NULL, 0);
        io_wait(io, 0); /* the error is on the socket now */
        io_send(io, &s, (const uint8_t *)"good", 4, &there, NULL, 0);
        turn_until(&h.icmps, i);
        io_wait(io, 0);
        char buf[8];
        CHECK_EQ(awaited(peer, buf, sizeof(buf)), 4);
    }
    CHECK(addr_equal(&h.icmp.peer, &nobody));
    CHECK_EQ(h.icmp.type, type);
    CHECK_EQ(h.icmp.code, code);
    CHECK_EQ(h.icmp.mtu, 0);
    CHECK_EQ(h.errors, 0);
    send_from(peer, &here, "still here", 10);
    turn_until(&h.packets, 1);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

static void x29_both_families(void)
{
    x29_icmp_is_heard_and_costs_nothing(test_loopback(), 3, 3);
    x29_icmp_is_heard_and_costs_nothing("::1", 1, 4);
}

static int fragmenting(int fd)
{
    int value = -1;
    socklen_t len = sizeof(value);
    CHECK_EQ(getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &value, &len), 0);
    return value;
}

static void x80_a_datagram_too_long_for_its_path_is_reported_not_cut(void)
{
    start();
    struct io_socket s = {
        .handler = &handler, .fd = open_at(test_loopback()), .wants_errors = true};
    int peer = open_at(test_loopback());
    struct addr there = bound(peer);
    CHECK_EQ(io_add(io, &s), 0);
    uint8_t *p = io_scratch(io, 1000), buf[2000];
    memset(p, 1, 1000);
    io_send(io, &s, p, 1000, &there, NULL, IO_DONT_FRAGMENT);
    io_wait(io, 0);
    CHECK_EQ(awaited(peer, buf, sizeof(buf)), 1000);
    CHECK_EQ(fragmenting(s.fd), IP_PMTUDISC_DO);
    io_send(io, &s, p, 1000, &there, NULL, 0);
    CHECK_EQ(fragmenting(s.fd), IP_PMTUDISC_OMIT); /* as the next one wants it */
    io_wait(io, 0);
    CHECK_EQ(awaited(peer, buf, sizeof(buf)), 1000);
    close_socket(&s);
    close(peer);
    io_destroy(io);
}

static void sockets_are_closed_once_and_slots_used_again(void)
{
    start();
    int peer = open_at(test_loopback());
    for (int round = 0; round < 20; round++) {
        struct io_socket s[16];
        for (int i = 0; i < 16; i++) {
            s[i] = (struct io_socket){.handler = &handler, .fd = open_at(test_loopback())};
            CHECK_EQ(io_add(io, &s[i]), 0);
        }
        struct io_socket one_too_many = {.fd = peer};
        CHECK_EQ(io_add(io, &one_too_many), -ENOSPC);
        struct addr to = bound(s[3].fd);
        send_from(peer, &to, "x", 1);
        unsigned before = h.closed;
        for (int i = 0; i < 16; i++)
            io_remove(io, &s[i]);
        turn_until(&h.closed, before + 16);
    }
    CHECK_EQ(h.packets, 0); /* none after io_remove */
    close(peer);
    io_destroy(io);
}

/* Whoever starts again at once finds his ports free. */
static void a_stopped_io_has_let_go_of_every_port(void)
{
    for (int round = 0; round < 20; round++) {
        struct io_socket s[8];
        struct addr at[8];
        start();
        for (int i = 0; i < 8; i++) {
            s[i] = (struct io_socket){.handler = &handler, .fd = open_at(test_loopback())};
            at[i] = bound(s[i].fd);
            CHECK_EQ(io_add(io, &s[i]), 0);
        }
        turn();
        io_stop(io);
        for (int i = 0; i < 8; i++) {
            int again = socket_open_relayed(&at[i], NULL);
            CHECK(again >= 0);
            close(again);
        }
        io_destroy(io);
    }
}

/* ------------------------------------------------------------------------------------- streams */

static struct told {
    struct io_stream io;
    unsigned times, ended;
    struct told *removes; /* another, when it is told of */
    bool asks;            /* to be told again, once */
} told[2];

static void on_ready(void *ctx, struct io_stream *s, bool ended)
{
    struct told *t = container_of(s, struct told, io);
    (void)ctx;
    t->times++;
    t->ended += ended;
    if (t->removes)
        io_stream_remove(io, &t->removes->io);
    if (t->asks)
        io_stream_again(io, s);
    t->asks = false;
}

static void add_stream(struct told *t, int fd)
{
    static const struct io_stream_handler stream_handler = {on_ready};
    *t = (struct told){.io = {.fd = fd, .handler = &stream_handler}};
    CHECK_EQ(io_stream_add(io, &t->io), 0);
}

/* For what happens once, where it is asked for again, its end, and not after it was removed. */
static void streams_are_told_of_when_they_are_ready(void)
{
    int a[2], b[2];
    start();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
    add_stream(&told[0], a[0]);
    turn_until(&told[0].times, 1); /* there is room to write */
    turn();
    CHECK_EQ(told[0].times, 1);
    told[0].asks = true;
    CHECK(write(a[1], "x", 1) == 1);
    turn_until(&told[0].times, 3);
    turn();
    CHECK_EQ(told[0].times, 3);
    close(a[1]);
    turn_until(&told[0].times, 4);
    CHECK(told[0].ended > 0);
    io_stream_remove(io, &told[0].io);
    close(a[0]);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    add_stream(&told[0], a[0]);
    add_stream(&told[1], b[0]);
    told[0].removes = &told[1];
    told[1].removes = &told[0];
    for (int i = 0; i < 4; i++)
        turn();
    CHECK_EQ(told[0].times + told[1].times, 1);
    for (int i = 0; i < 2; i++) {
        io_stream_remove(io, &told[i].io);
        close(told[i].io.fd);
    }
    close(a[1]);
    close(b[1]);
    io_stop(io);
    io_destroy(io);
}

#define RUN(f) (test_begin(#f), f())

static void all_on(int (*backend)(struct io **, const struct io_events *, uint32_t))
{
    create = backend;
    RUN(echo_over_both_families);
    RUN(s15_a_wildcard_answers_from_where_it_was_asked);
    RUN(a_burst_larger_than_every_table_gets_through);
    RUN(received_bursts_use_every_buffer_and_go_on);
    RUN(losses_of_the_socket_are_told);
    RUN(x105_nothing_queued_is_lost_when_buffers_run_out);
    RUN(x106_nothing_is_lost_when_completions_overflow);
    RUN(x105_places_are_used_again_while_buffers_run_out);
    RUN(a_batch_leaves_in_runs_of_both_families);
    RUN(joined_datagrams_of_both_families);
    RUN(nothing_of_a_joined_piece_comes_after_removal);
    RUN(a_refused_run_goes_datagram_by_datagram);
    RUN(what_is_not_sent_is_told);
    RUN(x29_a_run_survives_what_was_said_of_another);
    RUN(empty_datagrams_between_others);
    RUN(listeners_are_given_no_empty_datagrams);
    RUN(x29_both_families);
    RUN(x80_a_datagram_too_long_for_its_path_is_reported_not_cut);
    RUN(sockets_are_closed_once_and_slots_used_again);
    RUN(a_stopped_io_has_let_go_of_every_port);
    RUN(streams_are_told_of_when_they_are_ready);
}

int main(void)
{
    all_on(uring_create);
    all_on(epoll_create_io);
    return test_end("io");
}
