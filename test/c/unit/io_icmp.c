/*
 * What ICMP, or the kernel in its place, says of a datagram is heard and costs no other datagram
 * anything. On the real kernel, by io_uring and by epoll.
 */
#include "io_kit.h"

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

static void all_on(int (*backend)(struct io **, const struct io_events *, uint32_t))
{
    create = backend;
    RUN(x29_both_families);
    RUN(x80_a_datagram_too_long_for_its_path_is_reported_not_cut);
}

int main(void)
{
    all_on(uring_create);
    all_on(epoll_create_io);
    return test_end("io_icmp");
}
