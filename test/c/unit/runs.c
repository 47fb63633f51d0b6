/*
 * What a batch sends, grouped into runs: which datagrams go together, in which order they leave,
 * and what becomes of destinations that take no runs.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "runs.h"
#include "test.h"

static struct runs *r;
static struct io_socket a = {.fd = -1}, b = {.fd = -1};
static uint8_t payload[70000];

static void start(void)
{
    if (!r && !(r = malloc(sizeof(*r))))
        abort();
    memset(r, 0, sizeof(*r));
    a = b = (struct io_socket){.fd = -1};
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)i;
}

static struct addr at(const char *ip, uint16_t port)
{
    struct addr x = {0};
    CHECK(addr_parse(&x, ip, port));
    return x;
}

static struct run *add(struct io_socket *s, const struct addr *to, size_t len)
{
    return runs_add(r, s, NULL, payload, len, to, NULL);
}

/* The UDP_SEGMENT of a message, 0 without. */
static unsigned segment_of(const struct msghdr *msg)
{
    uint16_t size = 0;
    struct msghdr m = *msg;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_SEGMENT)
            memcpy(&size, CMSG_DATA(c), sizeof(size));
    return size;
}

static void datagrams_of_a_flow_and_a_size_are_one_run(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000);
    for (int i = 0; i < 5; i++)
        add(&a, &to, 1100);
    CHECK_EQ(r->count, 1);
    CHECK_EQ(r->runs[0].count, 5);
    const struct msghdr *msg = runs_message(r, &r->runs[0]);
    CHECK_EQ(msg->msg_iovlen, 5);
    CHECK_EQ(segment_of(msg), 1100);
    CHECK_EQ(msg->msg_namelen, sizeof(struct sockaddr_in));
    runs_clear(r);
    CHECK_EQ(r->count, 0);
    CHECK_EQ(add(&a, &to, 1100)->count, 1);
}

/* Flows may share a bucket by chance, and then end each other's runs. */
static bool go_together(const struct addr to[], int flows)
{
    runs_clear(r);
    for (int i = 0; i < 2; i++)
        for (int f = 0; f < flows; f++)
            add(f < 4 ? &a : &b, &to[f], 500);
    return r->count == (uint32_t)flows;
}

static void flows_between_one_another_form_runs_all_the_same(void)
{
    start();
    struct addr to[8];
    uint16_t port = 1000;
    for (int f = 0; f < 8; f++)
        do
            to[f] = at(f % 2 ? "192.0.2.1" : "2001:db8::1", port++);
        while (!go_together(to, f + 1) && port < 1100);
    runs_clear(r);
    for (int i = 0; i < 4; i++)
        for (int f = 0; f < 8; f++)
            add(f < 4 ? &a : &b, &to[f], 500);
    CHECK_EQ(r->count, 8);
    for (int f = 0; f < 8; f++) {
        CHECK_EQ(r->runs[f].count, 4);
        CHECK(addr_equal(&r->runs[f].to, &to[f]));
    }
}

static void what_differs_is_another_flow(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000), port = at("192.0.2.1", 1001),
                ip = at("192.0.2.2", 1000), from = at("192.0.2.9", 0), other = at("192.0.2.8", 0),
                local = at("fe80::1%1", 5), elsewhere = at("fe80::1%2", 5);
    a.wants_dest = true;
    add(&a, &to, 100);
    add(&b, &to, 100);
    add(&a, &port, 100);
    add(&a, &ip, 100);
    runs_add(r, &a, NULL, payload, 100, &to, &from);
    runs_add(r, &a, NULL, payload, 100, &to, &other);
    add(&a, &local, 100);
    add(&a, &elsewhere, 100);
    CHECK_EQ(r->count, 8);
}

static void a_source_is_obeyed_only_where_it_is_wanted(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000), from = at("192.0.2.9", 0);
    CHECK(run_is_plain(r, runs_add(r, &a, NULL, payload, 100, &to, &from)));
    b.wants_dest = true;
    struct run *named = runs_add(r, &b, NULL, payload, 100, &to, &from);
    CHECK(!run_is_plain(r, named));
    const struct msghdr *msg = runs_message(r, named);
    struct cmsghdr *c = CMSG_FIRSTHDR((struct msghdr *)(uintptr_t)msg);
    CHECK(c && c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO);
}

/* A shorter one may be the last of its run; a longer one begins the next. */
static void only_the_last_may_be_shorter(void)
{
    static const size_t sizes[] = {1200, 1200, 700, 1200, 1200, 1300, 1300, 1, 1, 0, 1};
    static const unsigned runs[] = {3, 2, 3, 1, 1, 1};
    start();
    struct addr to = at("192.0.2.1", 1000);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        add(&a, &to, sizes[i]);
    CHECK_EQ(r->count, ARRAY_SIZE(runs));
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
        CHECK_EQ(r->runs[i].count, runs[i]);
}

/* However runs are cut, the datagrams of a flow leave in the order they came. */
static void order_within_a_flow_holds(void)
{
    start();
    struct addr to[5];
    unsigned seen[5] = {0}, sent[5] = {0};
    uint32_t seed = 1;
    for (uint16_t f = 0; f < 5; f++)
        to[f] = at("192.0.2.1", (uint16_t)(1000 + f));
    for (uint32_t i = 0; i < RUNS_MAX; i++) {
        seed = seed * 1664525 + 1013904223;
        unsigned f = seed >> 8 & 3;
        if (seed >> 28 == 7)
            f = 4;
        runs_add(r, &a, NULL, payload + sent[f]++, seed >> 24 & 3 ? 300 : 200, &to[f], NULL);
    }
    CHECK(runs_full(r));
    CHECK(r->count < RUNS_MAX);
    for (uint32_t i = 0; i < r->count; i++) {
        const struct run *run = &r->runs[i];
        unsigned f = run->to.port - 1000u, n = 0;
        for (uint32_t k = run->first + 1u; k; k = r->out[k - 1].next, n++)
            CHECK(r->out[k - 1].data == payload + seen[f]++);
        CHECK_EQ(n, run->count);
    }
    for (int f = 0; f < 5; f++)
        CHECK_EQ(seen[f], sent[f]);
}

static void a_run_is_no_longer_than_the_kernel_takes(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000);
    for (int i = 0; i < 130; i++)
        add(&a, &to, 100);
    CHECK_EQ(r->count, 3);
    CHECK_EQ(r->runs[0].count, RUN_SEGMENTS);
    CHECK_EQ(r->runs[2].count, 2);
    runs_clear(r);
    for (int i = 0; i < 10; i++)
        add(&a, &to, 9000);
    CHECK_EQ(r->count, 2);
    CHECK_EQ(r->runs[0].count, 7);
    for (uint32_t i = 0; i < r->count; i++)
        CHECK(r->runs[i].bytes <= RUN_BYTES);
    runs_clear(r);
    add(&a, &to, 65507);
    add(&a, &to, 65507);
    CHECK_EQ(r->count, 2);
}

static void heads_go_before_their_data(void)
{
    start();
    struct addr to = at("2001:db8::1", 1000);
    for (uint8_t i = 0; i < 3; i++)
        runs_add(r, &a, (const uint8_t[]){'h', 'e', 'a', i}, payload + 100 * i, 100, &to, NULL);
    runs_add(r, &a, NULL, payload, 104, &to, NULL);
    CHECK_EQ(r->count, 1);
    const struct msghdr *msg = runs_message(r, &r->runs[0]);
    CHECK_EQ(segment_of(msg), 104);
    CHECK_EQ(msg->msg_iovlen, 7);
    for (uint8_t i = 0; i < 3; i++) {
        CHECK_BYTES(msg->msg_iov[2 * i].iov_base, msg->msg_iov[2 * i].iov_len,
                    ((const uint8_t[]){'h', 'e', 'a', i}), 4);
        CHECK(msg->msg_iov[2 * i + 1].iov_base == payload + 100 * i);
        CHECK_EQ(msg->msg_iov[2 * i + 1].iov_len, 100);
    }
    struct run_single one;
    runs_single(r, &r->runs[0], 1, &one);
    CHECK_EQ(one.msg.msg_iovlen, 2);
    CHECK_EQ(segment_of(&one.msg), 0);
    CHECK_EQ(((const uint8_t *)one.iov[0].iov_base)[3], 1);
    runs_clear(r);
    CHECK(
        !run_is_plain(r, runs_add(r, &a, (const uint8_t[]){1, 2, 3, 4}, payload, 100, &to, NULL)));
}

/* As many pieces as there can be have room. */
static void a_full_batch_of_heads_fits(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000);
    for (unsigned i = 0; i < RUNS_MAX; i++) {
        CHECK(!runs_full(r));
        runs_add(r, &a, payload, payload, 10, &to, NULL);
    }
    CHECK(runs_full(r));
    for (uint32_t i = 0; i < r->count; i++)
        CHECK_EQ(runs_message(r, &r->runs[i])->msg_iovlen, 2 * RUN_SEGMENTS);
    CHECK_EQ(r->iovecs, 2 * RUNS_MAX);
}

static void nothing_joins_a_sealed_run(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000);
    add(&a, &to, 100);
    runs_seal(r);
    add(&a, &to, 100);
    CHECK_EQ(r->count, 2);
}

static unsigned runs_of_two(const char *ip, size_t len)
{
    struct addr to = at(ip, 1000);
    runs_clear(r);
    add(&a, &to, len);
    add(&a, &to, len);
    return r->count;
}

/* As if their minute were over. */
static void let_refusals_end(void)
{
    for (size_t i = 0; i < RUNS_REFUSED; i++)
        if (r->refused[i].until)
            r->refused[i].until = 1;
}

static void who_refuses_runs_gets_singles_and_nobody_else(void)
{
    start();
    CHECK_EQ(runs_of_two("192.0.2.1", 1000), 1);
    CHECK(!runs_refuse(r, &r->runs[0], EAGAIN)); /* no room: not the run's fault */
    CHECK_EQ(runs_of_two("192.0.2.1", 1000), 1);
    CHECK(runs_refuse(r, &r->runs[0], EINVAL)); /* a segment larger than the path takes */
    CHECK_EQ(runs_of_two("192.0.2.1", 1000), 2);
    CHECK(!runs_refuse(r, &r->runs[0], EINVAL)); /* a single: wrong in itself */
    CHECK_EQ(runs_of_two("192.0.2.1", 1001), 2);
    CHECK_EQ(runs_of_two("192.0.2.1", 999), 1);
    CHECK_EQ(runs_of_two("192.0.2.2", 1000), 1);
    CHECK(runs_refuse(r, &r->runs[0], EIO)); /* a device that cannot */
    CHECK_EQ(runs_of_two("192.0.2.2", 10), 2);
    CHECK_EQ(runs_of_two("2001:db8::7", 1000), 1);
    let_refusals_end();
    CHECK_EQ(runs_of_two("192.0.2.1", 1000), 1); /* it may have changed */
    CHECK_EQ(runs_of_two("192.0.2.2", 1000), 1);
    CHECK_EQ(r->refusals, 0);
}

/* Bounded: more destinations than places forget, and never count wrong. */
static void many_refusals_take_no_more_room(void)
{
    start();
    struct addr to = at("192.0.2.1", 1000);
    for (unsigned i = 0; i < 1000; i++) {
        to.ip[14] = (uint8_t)(i >> 8);
        to.ip[15] = (uint8_t)i;
        runs_clear(r);
        add(&a, &to, 100);
        struct run *run = add(&a, &to, 100);
        CHECK(runs_refuse(r, run, EOPNOTSUPP));
        runs_clear(r);
        add(&a, &to, 100);
        CHECK_EQ(add(&a, &to, 100)->count, 1);
        CHECK(r->refusals <= RUNS_REFUSED);
    }
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(datagrams_of_a_flow_and_a_size_are_one_run);
    RUN(flows_between_one_another_form_runs_all_the_same);
    RUN(what_differs_is_another_flow);
    RUN(a_source_is_obeyed_only_where_it_is_wanted);
    RUN(only_the_last_may_be_shorter);
    RUN(order_within_a_flow_holds);
    RUN(a_run_is_no_longer_than_the_kernel_takes);
    RUN(heads_go_before_their_data);
    RUN(a_full_batch_of_heads_fits);
    RUN(nothing_joins_a_sealed_run);
    RUN(who_refuses_runs_gets_singles_and_nobody_else);
    RUN(many_refusals_take_no_more_room);
    free(r);
    return test_end("runs");
}
