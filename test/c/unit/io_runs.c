/*
 * Runs, datagrams of one size that the kernel takes, or hands up, as one piece: they leave as one,
 * and are handed up datagram by datagram; where a run is refused nothing is lost by it. On the real
 * kernel, by io_uring and by epoll.
 */
#include <netinet/udp.h>
#include <stdalign.h>

#include "io_kit.h"

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

static void all_on(int (*backend)(struct io **, const struct io_events *, uint32_t))
{
    create = backend;
    RUN(a_batch_leaves_in_runs_of_both_families);
    RUN(joined_datagrams_of_both_families);
    RUN(nothing_of_a_joined_piece_comes_after_removal);
    RUN(a_refused_run_goes_datagram_by_datagram);
    RUN(what_is_not_sent_is_told);
    RUN(x29_a_run_survives_what_was_said_of_another);
}

int main(void)
{
    all_on(uring_create);
    all_on(epoll_create_io);
    return test_end("io_runs");
}
