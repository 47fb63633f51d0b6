/*
 * io_dgram.h on the real kernel, by io_uring and by epoll, and real sockets of loopback: what is
 * sent arrives, from where it should; reception survives whatever interrupts it; sockets end once,
 * and let go of their ports.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "io_kit.h"

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
    RUN(empty_datagrams_between_others);
    RUN(listeners_are_given_no_empty_datagrams);
    RUN(sockets_are_closed_once_and_slots_used_again);
    RUN(a_stopped_io_has_let_go_of_every_port);
}

int main(void)
{
    all_on(uring_create);
    all_on(epoll_create_io);
    return test_end("io_dgram");
}
