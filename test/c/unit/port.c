/*
 * Relayed ports with real sockets on loopback: nothing lost, nothing twice; and the spread of
 * clients over a group of listening sockets, the kernel's choice against ours.
 */
#include "port.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "socket.h"
#include "test.h"

static struct ports ports;
static struct addr v4;

static void start(uint16_t min, uint16_t max)
{
    ports_init(&ports, &(struct socket_buffers){0});
    CHECK(addr_parse(&v4, test_loopback(), 0));
    CHECK_EQ(ports_add(&ports, 1, &v4, &v4, min, max), 0);
}

static void x72_exhaustion_is_an_error_and_a_port_freed_is_found(void)
{
    struct port p[5];
    uint64_t token;
    start(21000, 21003);
    struct pool *pool = ports_find(&ports, 1);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 0, &p[i], &token), 0);
    CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 0, &p[4], &token), -EADDRINUSE);
    CHECK_EQ(ports_free(&ports), 0);
    CHECK(port_is_live(pool, 21002));
    close(p[2].fd);
    port_release(pool, p[2].port);
    CHECK(!port_is_live(pool, p[2].port));
    CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 0, &p[4], &token), 0);
    CHECK_EQ(p[4].port, p[2].port);
    for (int i = 0; i < 5; i++)
        if (i != 2)
            close(p[i].fd);
    ports_destroy(&ports);
}

static void x73_even_ports_leak_nothing(void)
{
    struct port p[8];
    uint64_t token;
    start(21000, 21007);
    struct pool *pool = ports_find(&ports, 1);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(port_take(&ports, pool, 0, PORT_EVEN, 0, &p[i], &token), 0);
        CHECK_EQ(p[i].port % 2, 0);
        CHECK_EQ(token, 0);
    }
    for (int i = 4; i < 8; i++)
        CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 0, &p[i], &token), 0);
    for (int i = 0; i < 8; i++) {
        close(p[i].fd);
        port_release(pool, p[i].port);
    }
    CHECK_EQ(ports_free(&ports), 8);
    ports_destroy(&ports);
}

static void t27_a_pair_is_held_and_redeemed_once_within_its_time(void)
{
    struct port even, odd, none;
    uint64_t token, other;
    start(21000, 21001);
    struct pool *pool = ports_find(&ports, 1);
    CHECK_EQ(port_take(&ports, pool, 0, PORT_EVEN_PAIR, 5, &even, &token), 0);
    CHECK_EQ(even.port, 21000);
    CHECK(token != 0);
    CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 5, &none, &other), -EADDRINUSE);
    CHECK(!port_is_live(pool, 21001));
    CHECK(!port_redeem(&ports, token + 1, 5, &odd));
    CHECK(port_redeem(&ports, token, 5 + 29 * NS_PER_S, &odd));
    CHECK_EQ(odd.port, 21001);
    CHECK(port_is_live(pool, 21001));
    CHECK(!port_redeem(&ports, token, 5, &none));
    close(even.fd);
    close(odd.fd);
    port_release(pool, even.port);
    port_release(pool, odd.port);

    CHECK_EQ(port_take(&ports, pool, 0, PORT_EVEN_PAIR, 5, &even, &token), 0);
    CHECK_EQ(ports_expire(&ports, 6), 5 + 30 * NS_PER_S);
    CHECK_EQ(ports_expire(&ports, 5 + 30 * NS_PER_S), UINT64_MAX);
    CHECK(!port_redeem(&ports, token, 6, &odd));
    CHECK_EQ(ports_free(&ports), 1);
    close(even.fd);
    ports_destroy(&ports);
}

static void ports_of_others_are_passed_over(void)
{
    start(21000, 21001);
    struct pool *pool = ports_find(&ports, 1);
    struct addr taken = v4;
    taken.port = 21000;
    int fd = socket_open_relayed(&taken, NULL);
    CHECK(fd >= 0);
    struct port p;
    uint64_t token;
    CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 0, &p, &token), 0);
    CHECK_EQ(p.port, 21001);
    close(p.fd);
    port_release(pool, p.port);
    CHECK_EQ(port_take(&ports, pool, 0, PORT_EVEN_PAIR, 0, &p, &token), -EADDRINUSE);
    CHECK_EQ(ports_free(&ports), 2);
    close(fd);
    CHECK_EQ(port_take(&ports, pool, 21001, PORT_ANY, 0, &p, &token), 0); /* by name */
    CHECK_EQ(port_take(&ports, pool, 21001, PORT_ANY, 0, &p, &token), -EADDRINUSE);
    close(p.fd);
    ports_destroy(&ports);
}

static void x75_ports_come_from_all_over_the_range(void)
{
    enum { N = 200 };
    static struct port p[N];
    uint64_t token;
    unsigned high = 0, neighbours = 0;
    start(24000, 27999);
    struct pool *pool = ports_find(&ports, 1);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(port_take(&ports, pool, 0, PORT_ANY, 0, &p[i], &token), 0);
        high += p[i].port >= 26000;
        neighbours += i > 0 && p[i].port == p[i - 1].port + 1;
    }
    CHECK(high > N / 4 && high < N * 3 / 4); /* 7 sigma */
    CHECK(neighbours < 10);
    for (int i = 0; i < N; i++)
        close(p[i].fd);
    ports_destroy(&ports);
}

static void pools_stand_in_for_each_other(void)
{
    struct addr other, v6;
    struct port p[6];
    uint64_t token;
    start(21000, 21000);
    CHECK(addr_parse(&other, "127.0.0.2", 0));
    CHECK(addr_parse(&v6, "::1", 0));
    CHECK_EQ(ports_add(&ports, 2, &other, &other, 22000, 22001), 0);
    CHECK_EQ(ports_add(&ports, 3, &v6, &v6, 23000, 23001), 0);
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 0, PORT_ANY, 0, &p[0], &token), 0);
    CHECK_EQ(p[0].port, 21000); /* the one that was named */
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 0, PORT_EVEN, 0, &p[1], &token), 0);
    CHECK_EQ(p[1].port, 22000); /* the one that has some */
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 22001, PORT_ANY, 0, &p[2], &token), -EADDRINUSE);
    CHECK_EQ(ports_take(&ports, UINT32_MAX, ADDR_V4, 0, PORT_ANY, 0, &p[2], &token), 0);
    CHECK_EQ(ports_take(&ports, 2, ADDR_V4, 0, PORT_ANY, 0, &p[3], &token), -EADDRINUSE);
    CHECK_EQ(ports_take(&ports, 3, ADDR_V6, 0, PORT_ANY, 0, &p[3], &token), 0);
    for (int i = 0; i < 4; i++) {
        close(p[i].fd);
        port_release(p[i].pool, p[i].port);
    }
    CHECK_EQ(ports_free(&ports), 5);
    ports_destroy(&ports);
}

static void a_closed_pool_gives_the_ports_that_are_named(void)
{
    struct port p;
    uint64_t token;
    start(21000, 21001);
    struct pool *pool = ports_find(&ports, 1);
    pool->closed = true;
    CHECK_EQ(ports_free(&ports), 0);
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 0, PORT_ANY, 0, &p, &token), -EADDRINUSE);
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 21001, PORT_ANY, 0, &p, &token), 0);
    CHECK(port_is_live(pool, 21001));
    CHECK_EQ(ports_add(&ports, 1, &v4, &v4, 21000, 21002), -EEXIST);
    CHECK(pool->closed);
    CHECK_EQ(ports_add(&ports, 1, &v4, &v4, 21000, 21001), 0);
    CHECK_EQ(ports_free(&ports), 1);
    CHECK(port_is_live(pool, 21001));
    close(p.fd);
    ports_destroy(&ports);
}

/* The 257th relay address over the life of the program is as good as the first. */
static void pools_that_are_no_longer_used_are_forgotten(void)
{
    struct port p;
    uint64_t token;
    start(21000, 21001);
    for (uint32_t id = 2; id < 3 * POOLS_MAX; id++) {
        CHECK_EQ(ports_add(&ports, id, &v4, &v4, 22000, 22001), 0);
        CHECK_EQ(ports_take(&ports, id, ADDR_V4, 22000, PORT_ANY, 0, &p, &token), 0);
        struct pool *held = pool_hold(p.pool); /* as a policy does that was made now */
        ports_find(&ports, id)->closed = true;
        CHECK(!ports_sweep(&ports)); /* something lives there */
        close(p.fd);
        port_release(p.pool, p.port);
        CHECK(ports_sweep(&ports));
        CHECK(!ports_find(&ports, id));
        CHECK(!port_is_live(held, 22000)); /* and whoever looks sees it to the end */
        pool_drop(held);
    }
    CHECK_EQ(ports.pool_count, 1);
    ports_destroy(&ports);
}

/* Addresses of allocations that are to be replayed: closed, and no port was given yet. */
static void a_closed_pool_waits_for_its_replay_while_there_is_room(void)
{
    struct port p;
    uint64_t token;
    start(21000, 21001);
    ports_find(&ports, 1)->closed = true;
    CHECK(!ports_sweep(&ports));
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 21000, PORT_ANY, 0, &p, &token), 0);
    for (uint32_t id = 2; id <= POOLS_MAX; id++) {
        CHECK_EQ(ports_add(&ports, id, &v4, &v4, 22000, 22001), 0);
        ports_find(&ports, id)->closed = id % 2;
    }
    CHECK_EQ(ports_add(&ports, 1000, &v4, &v4, 22000, 22001), 0); /* in the place of idle ones */
    CHECK(ports_find(&ports, 1));                                 /* which this one is not */
    CHECK(ports_find(&ports, 2));
    CHECK(!ports_find(&ports, 3));
    for (uint32_t id = 1001; ports.pool_count < POOLS_MAX; id++)
        CHECK_EQ(ports_add(&ports, id, &v4, &v4, 22000, 22001), 0);
    CHECK_EQ(ports_add(&ports, 5000, &v4, &v4, 22000, 22001), -ENOSPC);
    close(p.fd);
    ports_destroy(&ports);
}

static void an_address_that_is_away_is_the_last_to_be_tried(void)
{
    struct port p;
    uint64_t token;
    start(21000, 21009);
    CHECK_EQ(ports_add(&ports, 2, &v4, &v4, 22000, 22001), 0);
    ports_find(&ports, 1)->away = true;
    CHECK_EQ(ports_free(&ports), 2);
    CHECK_EQ(ports_take(&ports, UINT32_MAX, ADDR_V4, 0, PORT_ANY, 0, &p, &token), 0);
    CHECK(p.port >= 22000);
    close(p.fd);
    ports_destroy(&ports);
}

/* Sends from many ports; each datagram must arrive where socket_spread says. */
static void spread(const char *ip)
{
    enum { N = 4, CLIENTS = 200 };
    int fds[N];
    struct addr local, from;
    CHECK(addr_parse(&local, ip, 0));
    CHECK_EQ(socket_open_group(SOCK_DGRAM, &local, N, NULL, fds), 0);
    CHECK(local.port != 0);
    struct sockaddr_storage to;
    socklen_t to_len = addr_to_sockaddr(&local, &to);
    unsigned seen[N] = {0}, wrong = 0;
    for (int i = 0; i < CLIENTS; i++) {
        int fd = socket(to.ss_family, SOCK_DGRAM, 0);
        CHECK_EQ(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, to_len), 1);
        struct pollfd p[N];
        for (int j = 0; j < N; j++)
            p[j] = (struct pollfd){.fd = fds[j], .events = POLLIN};
        CHECK_EQ(poll(p, N, 5000), 1);
        for (unsigned j = 0; j < N; j++) {
            struct sockaddr_storage ss;
            socklen_t len = sizeof(ss);
            char byte;
            if (!(p[j].revents & POLLIN))
                continue;
            CHECK_EQ(recvfrom(fds[j], &byte, 1, 0, (struct sockaddr *)&ss, &len), 1);
            CHECK(addr_from_sockaddr(&from, (struct sockaddr *)&ss, len));
            wrong += socket_spread(&from, N) != j;
            seen[j]++;
        }
        close(fd);
    }
    CHECK_EQ(wrong, 0);
    for (int j = 0; j < N; j++) {
        CHECK(seen[j] > CLIENTS / N / 4);
        close(fds[j]);
    }
}

static void clients_are_spread_as_computed(void)
{
    spread(test_loopback());
    spread("::1");
    spread("0.0.0.0");
}

static void a_group_shares_its_port_with_nobody(void)
{
    struct addr local;
    int fds[2], again[2];
    CHECK(addr_parse(&local, test_loopback(), 0));
    CHECK_EQ(socket_open_group(SOCK_DGRAM, &local, 2, NULL, fds), 0);
    struct addr same = local;
    CHECK_EQ(socket_open_group(SOCK_DGRAM, &same, 2, NULL, again), -EADDRINUSE);
    close(fds[0]);
    close(fds[1]);
}

static int receive_buffer(int fd)
{
    int bytes = 0;
    socklen_t len = sizeof(bytes);
    CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len), 0);
    return bytes / 2; /* the kernel doubles it */
}

/* 550 flooded ports with 8 MiB each were all the memory the machine has for UDP. */
static void a_relayed_socket_holds_no_more_than_a_client_needs(void)
{
    struct port p[2];
    uint64_t token;
    start(21100, 21103);
    ports_buffers(&ports, &(struct socket_buffers){.receive = 64 << 20, .send = 1 << 16});
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 0, PORT_ANY, 0, &p[0], &token), 0);
    CHECK(receive_buffer(p[0].fd) > 0 && receive_buffer(p[0].fd) <= RELAYED_RECEIVE_MAX);
    ports_buffers(&ports, &(struct socket_buffers){.receive = 100000});
    CHECK_EQ(ports_take(&ports, 1, ADDR_V4, 0, PORT_ANY, 0, &p[1], &token), 0);
    CHECK_EQ(receive_buffer(p[1].fd), 100000);
    close(p[0].fd);
    close(p[1].fd);
    ports_destroy(&ports);
}

/* Whatever allocations take, a listener can be opened and the host looked at. */
static void descriptors_are_kept_back_for_what_is_no_relayed_socket(void)
{
    struct rlimit before, few = {0};
    struct addr local;
    struct port p[200];
    uint64_t token;
    unsigned n = 0;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    few.rlim_cur = 128;
    few.rlim_max = before.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    ports_init(&ports, &(struct socket_buffers){0});
    CHECK(addr_parse(&local, test_loopback(), 0));
    CHECK_EQ(ports_add(&ports, 1, &local, &local, 40000, 40999), 0);
    int ret;
    while ((ret = ports_take(&ports, 1, ADDR_V4, 0, PORT_ANY, 0, &p[n], &token)) == 0 && n < 199)
        n++;
    CHECK_EQ(ret, -EMFILE);
    CHECK(n > 64 && n <= 96);
    CHECK_EQ(ports_free(&ports), 1000 - n); /* the port that could not be had is free */
    int more[32];
    for (unsigned i = 0; i < 32; i++)
        CHECK((more[i] = socket_open_relayed(&local, NULL)) >= 0);
    for (unsigned i = 0; i < 32; i++)
        close(more[i]);
    while (n-- > 0)
        close(p[n].fd);
    ports_destroy(&ports);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* RFC 6062 5.2: who listens at a relayed address and who connects from it share it, with nobody
 * else. */
static void c6_a_connection_leaves_from_where_another_socket_listens(void)
{
    start(21000, 21001);
    struct port p, q;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr here = v4, seen;
    CHECK_EQ(ports_take_stream(&ports, 1, ADDR_V4, 0, &p), 0);
    CHECK(port_is_stream(p.pool, p.port) && !port_is_live(p.pool, p.port));
    CHECK_EQ(ports_take_stream(&ports, 1, ADDR_V4, p.port, &q), -EADDRINUSE);
    CHECK_EQ(ports_take_stream(&ports, 1, ADDR_V4, 0, &q), 0);
    CHECK(q.port != p.port);
    CHECK_EQ(ports_take_stream(&ports, 1, ADDR_V6, 0, &q), -EADDRINUSE);
    here.port = p.port;
    CHECK_EQ(socket_open_relayed_stream(&here), -EADDRINUSE); /* another program, so to speak */
    struct addr there = v4;
    there.port = q.port;
    int fd = socket_connect_relayed(&here, &there);
    CHECK(fd >= 0);
    CHECK_EQ(poll(&(struct pollfd){.fd = q.fd, .events = POLLIN}, 1, 10000), 1);
    int came = accept(q.fd, (struct sockaddr *)&ss, &len);
    CHECK(came >= 0 && addr_from_sockaddr(&seen, (struct sockaddr *)&ss, len));
    CHECK(addr_equal(&seen, &here));
    close(came);
    close(fd);
    close(p.fd);
    close(q.fd);
    port_release(p.pool, p.port);
    CHECK(!port_is_stream(p.pool, p.port));
    ports_destroy(&ports);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(x72_exhaustion_is_an_error_and_a_port_freed_is_found);
    RUN(x73_even_ports_leak_nothing);
    RUN(t27_a_pair_is_held_and_redeemed_once_within_its_time);
    RUN(ports_of_others_are_passed_over);
    RUN(x75_ports_come_from_all_over_the_range);
    RUN(pools_stand_in_for_each_other);
    RUN(a_closed_pool_gives_the_ports_that_are_named);
    RUN(pools_that_are_no_longer_used_are_forgotten);
    RUN(a_closed_pool_waits_for_its_replay_while_there_is_room);
    RUN(an_address_that_is_away_is_the_last_to_be_tried);
    RUN(c6_a_connection_leaves_from_where_another_socket_listens);
    RUN(clients_are_spread_as_computed);
    RUN(a_group_shares_its_port_with_nobody);
    RUN(a_relayed_socket_holds_no_more_than_a_client_needs);
    RUN(descriptors_are_kept_back_for_what_is_no_relayed_socket);
    return test_end("port");
}
