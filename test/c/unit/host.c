/*
 * The addresses of this machine: prefixes that lie in each other, what the kernel's bytes mean,
 * and the kernel itself in a network namespace of the test's own.
 */
#include "host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>

#include "routes.h"
#include "test.h"

enum { SEQ = 7 };

static struct addr ip(const char *text)
{
    struct addr a = {0};
    CHECK(addr_parse(&a, text, 0));
    return a;
}

static void add(struct host_list *l, enum host_kind kind, const char *text, unsigned bits)
{
    struct addr a = ip(text);
    struct host_prefix p = {.family = a.family,
                            .bits = (uint8_t)(bits + (a.family == ADDR_V4 ? 96 : 0)),
                            .kind = (uint8_t)kind};
    memcpy(p.ip, a.ip, 16);
    CHECK(host_list_add(l, &p));
}

static enum host_kind ask(const struct host *h, const char *text)
{
    struct addr a = ip(text);
    return host_kind(h, &a);
}

static struct host *make(struct host_list *l)
{
    struct host *h = host_make(l);
    CHECK(h);
    host_list_free(l);
    return h;
}

/* -------------------------------------------------------------------------------------- prefixes
 */

static void nothing_is_own_without_routes(void)
{
    struct host_list l = {0};
    struct host *h = make(&l);
    CHECK_EQ(ask(h, "127.0.0.1"), HOST_OTHER);
    CHECK_EQ(ask(h, "::1"), HOST_OTHER);
    CHECK_EQ(host_count(h), 0);
    host_drop(h);
}

static void the_longest_prefix_decides(void)
{
    struct host_list l = {0};
    add(&l, HOST_BROADCAST, "10.1.255.255", 32);
    add(&l, HOST_LOCAL, "10.1.0.0", 16);
    add(&l, HOST_ANYCAST, "10.1.7.0", 24);
    add(&l, HOST_LOCAL, "10.1.7.7", 32);
    add(&l, HOST_LOCAL, "9.9.9.9", 32);
    struct host *h = make(&l);
    CHECK_EQ(ask(h, "10.0.255.255"), HOST_OTHER);
    CHECK_EQ(ask(h, "10.1.0.0"), HOST_LOCAL);
    CHECK_EQ(ask(h, "10.1.6.255"), HOST_LOCAL);
    CHECK_EQ(ask(h, "10.1.7.0"), HOST_ANYCAST);
    CHECK_EQ(ask(h, "10.1.7.7"), HOST_LOCAL);
    CHECK_EQ(ask(h, "10.1.7.8"), HOST_ANYCAST); /* outwards, past the one that ended */
    CHECK_EQ(ask(h, "10.1.8.0"), HOST_LOCAL);
    CHECK_EQ(ask(h, "10.1.255.255"), HOST_BROADCAST);
    CHECK_EQ(ask(h, "10.2.0.0"), HOST_OTHER);
    CHECK_EQ(ask(h, "9.9.9.9"), HOST_LOCAL);
    CHECK_EQ(ask(h, "9.9.9.8"), HOST_OTHER);
    host_drop(h);
}

static void the_ends_of_the_numbers_count(void)
{
    struct host_list l = {0};
    add(&l, HOST_LOCAL, "::", 0);
    add(&l, HOST_ANYCAST, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 128);
    add(&l, HOST_MULTICAST, "ff00::", 8);
    add(&l, HOST_ANYCAST, "::", 128);
    struct host *h = make(&l);
    CHECK_EQ(ask(h, "::"), HOST_ANYCAST);
    CHECK_EQ(ask(h, "::1"), HOST_LOCAL);
    CHECK_EQ(ask(h, "2001:db8::1"), HOST_LOCAL);
    CHECK_EQ(ask(h, "ff02::1"), HOST_MULTICAST);
    CHECK_EQ(ask(h, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), HOST_MULTICAST);
    CHECK_EQ(ask(h, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), HOST_ANYCAST);
    CHECK_EQ(ask(h, "192.0.2.1"), HOST_OTHER); /* of another family */
    host_drop(h);
}

static void an_own_address_is_no_broadcast_address(void)
{
    struct host_list l = {0};
    add(&l, HOST_BROADCAST, "20.0.0.5", 32);
    add(&l, HOST_LOCAL, "20.0.0.5", 32);
    struct host *h = make(&l);
    CHECK_EQ(ask(h, "20.0.0.5"), HOST_LOCAL);
    CHECK_EQ(host_count(h), 1);
    host_drop(h);
}

static void number_257_is_as_known_as_the_first(void)
{
    struct host_list l = {0};
    char text[32];
    for (unsigned i = 0; i < 20000; i++) { /* in no order */
        unsigned n = i * 7919 % 20000;
        snprintf(text, sizeof(text), "9.%u.%u.1", n >> 8, n & 255);
        add(&l, HOST_LOCAL, text, 32);
    }
    struct host *h = make(&l);
    CHECK_EQ(host_count(h), 20000);
    unsigned own = 0, others = 0;
    for (unsigned n = 0; n < 20000; n++) {
        snprintf(text, sizeof(text), "9.%u.%u.1", n >> 8, n & 255);
        own += ask(h, text) == HOST_LOCAL;
        snprintf(text, sizeof(text), "9.%u.%u.2", n >> 8, n & 255);
        others += ask(h, text) == HOST_OTHER;
    }
    CHECK_EQ(own, 20000);
    CHECK_EQ(others, 20000);
    host_drop(h);
}

static void equal_is_what_means_the_same(void)
{
    struct host_list l = {0};
    add(&l, HOST_LOCAL, "10.0.0.1", 32);
    add(&l, HOST_LOCAL, "2001:db8::1", 128);
    struct host *a = make(&l);
    add(&l, HOST_LOCAL, "2001:db8::1", 128);
    add(&l, HOST_LOCAL, "10.0.0.1", 32);
    add(&l, HOST_LOCAL, "10.0.0.1", 32);
    struct host *b = make(&l);
    add(&l, HOST_LOCAL, "10.0.0.1", 32);
    add(&l, HOST_ANYCAST, "2001:db8::1", 128);
    struct host *c = make(&l);
    CHECK(host_equal(a, b));
    CHECK(!host_equal(a, c));
    host_drop(host_hold(a)); /* one hold is left */
    CHECK_EQ(ask(a, "10.0.0.1"), HOST_LOCAL);
    host_drop(a);
    host_drop(b);
    host_drop(c);
    host_drop(NULL);
}

/* --------------------------------------------------------------------------------- kernel's bytes
 */

struct bytes_out {
    uint8_t data[1024];
    size_t len;
};

static void put(struct bytes_out *out, const void *data, size_t len)
{
    if (len)
        memcpy(out->data + out->len, data, len);
    out->len += NLMSG_ALIGN(len);
}

static void put_message(struct bytes_out *out, uint16_t type, uint16_t flags, const void *body,
                        size_t len)
{
    struct nlmsghdr h = {.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + len),
                         .nlmsg_type = type,
                         .nlmsg_flags = flags,
                         .nlmsg_seq = SEQ};
    put(out, &h, sizeof(h));
    put(out, body, len);
}

static void put_route(struct bytes_out *out, uint16_t type, uint8_t route, const char *text,
                      unsigned bits, uint32_t table)
{
    struct addr a = ip(text);
    size_t size = a.family == ADDR_V4 ? 4 : 16;
    struct bytes_out body = {0};
    struct rtmsg m = {.rtm_family = size == 4 ? AF_INET : AF_INET6,
                      .rtm_dst_len = (uint8_t)bits,
                      .rtm_table = (uint8_t)(table < 256 ? table : RT_TABLE_COMPAT),
                      .rtm_type = route};
    struct rtattr t = {RTA_LENGTH(sizeof(table)), RTA_TABLE},
                  d = {(uint16_t)RTA_LENGTH(size), RTA_DST};
    put(&body, &m, sizeof(m));
    put(&body, &t, sizeof(t));
    put(&body, &table, sizeof(table));
    put(&body, &d, sizeof(d));
    put(&body, a.ip + 16 - size, size);
    put_message(out, type, NLM_F_MULTI, body.data, body.len);
}

static int parse(struct host_list *l, const struct bytes_out *out, bool *torn)
{
    uint8_t *exact = test_exact(out->data, out->len);
    int ret = routes_parse(l, exact, out->len, SEQ, torn);
    free(exact);
    return ret;
}

static void done(struct bytes_out *out, int err)
{
    put_message(out, NLMSG_DONE, NLM_F_MULTI, &err, sizeof(err));
}

static void a_dump_is_read_to_its_end(void)
{
    struct bytes_out out = {0};
    struct host_list l = {0};
    bool torn = false;
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "9.9.8.0", 24, RT_TABLE_LOCAL);
    put_route(&out, RTM_NEWROUTE, RTN_UNICAST, "9.9.9.0", 24, RT_TABLE_MAIN);
    put_route(&out, RTM_NEWROUTE, RTN_BROADCAST, "9.9.9.255", 32, RT_TABLE_LOCAL);
    CHECK_EQ(parse(&l, &out, &torn), ROUTES_MORE);
    out.len = 0;
    put_route(&out, RTM_NEWROUTE, RTN_ANYCAST, "2a00:1:2:3::", 128, RT_TABLE_LOCAL);
    put_route(&out, RTM_NEWROUTE, RTN_MULTICAST, "ff00::", 8, RT_TABLE_LOCAL);
    done(&out, 0);
    CHECK_EQ(parse(&l, &out, &torn), 0);
    CHECK(!torn);
    CHECK_EQ(l.count, 4);
    struct host *h = make(&l);
    CHECK_EQ(ask(h, "9.9.8.7"), HOST_LOCAL);
    CHECK_EQ(ask(h, "9.9.9.1"), HOST_OTHER);
    CHECK_EQ(ask(h, "9.9.9.255"), HOST_BROADCAST);
    CHECK_EQ(ask(h, "2a00:1:2:3::"), HOST_ANYCAST);
    CHECK_EQ(ask(h, "2a00:1:2:3::1"), HOST_OTHER);
    CHECK_EQ(ask(h, "ff02::1"), HOST_MULTICAST);
    host_drop(h);
}

/* A VRF has a table of its own for the addresses of its interfaces; a transparent proxy one where
 * everything is local, for packets that bear a mark. */
static void tables_of_others_count_but_for_their_default(void)
{
    struct bytes_out out = {0};
    struct host_list l = {0};
    bool torn = false;
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "10.5.0.1", 32, 1005);
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "0.0.0.0", 0, 100);
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "::", 0, 100);
    done(&out, 0);
    CHECK_EQ(parse(&l, &out, &torn), 0);
    struct host *h = make(&l);
    CHECK_EQ(ask(h, "10.5.0.1"), HOST_LOCAL);
    CHECK_EQ(ask(h, "8.8.8.8"), HOST_OTHER);
    CHECK_EQ(ask(h, "2001:4860::8888"), HOST_OTHER);
    host_drop(h);
    out.len = 0;
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "0.0.0.0", 0, RT_TABLE_LOCAL);
    done(&out, 0);
    CHECK_EQ(parse(&l, &out, &torn), 0);
    h = make(&l);
    CHECK_EQ(ask(h, "8.8.8.8"), HOST_LOCAL); /* so it is indeed */
    host_drop(h);
}

static void a_torn_or_failed_dump_is_none(void)
{
    struct bytes_out out = {0};
    struct host_list l = {0};
    bool torn = false;
    int err = -EPERM;
    put_message(&out, NLMSG_DONE, NLM_F_MULTI | NLM_F_DUMP_INTR, NULL, 0);
    CHECK_EQ(parse(&l, &out, &torn), 0);
    CHECK(torn);
    out.len = 0;
    put_message(&out, NLMSG_ERROR, 0, &err, sizeof(err));
    CHECK_EQ(parse(&l, &out, &torn), -EPERM);
    out.len = 0;
    done(&out, -ENOBUFS);
    CHECK_EQ(parse(&l, &out, &torn), -ENOBUFS);
    CHECK_EQ(routes_parse(&l, out.data, out.len, SEQ + 1, &torn), ROUTES_MORE); /* not ours */
    CHECK_EQ(l.count, 0);
    host_list_free(&l);
}

/* Whatever is cut off or says that it is longer than it is: no byte behind the end is read. */
static void cut_and_lying_messages_add_nothing_wrong(void)
{
    struct bytes_out out = {0};
    bool torn = false;
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "9.9.8.7", 32, RT_TABLE_LOCAL);
    for (size_t len = 0; len < out.len; len++) {
        struct host_list l = {0};
        uint8_t *exact = test_exact(out.data, len);
        CHECK_EQ(routes_parse(&l, exact, len, SEQ, &torn), ROUTES_MORE);
        CHECK(!routes_concern(exact, len));
        CHECK_EQ(l.count, 0);
        free(exact);
        host_list_free(&l);
    }
    for (size_t at = 0; at < out.len; at++) {
        struct bytes_out bad = out;
        struct host_list l = {0};
        bad.data[at] = 0xff;
        parse(&l, &bad, &torn);
        CHECK(l.count <= 1);
        host_list_free(&l);
    }
    struct host_list l = {0};
    out.len = 0;
    put_route(&out, RTM_NEWROUTE, RTN_LOCAL, "9.9.8.7", 33, RT_TABLE_LOCAL); /* of 32 */
    done(&out, 0);
    CHECK_EQ(parse(&l, &out, &torn), 0);
    CHECK_EQ(l.count, 0);
}

static void only_what_is_ours_concerns_us(void)
{
    struct bytes_out out = {0};
    put_route(&out, RTM_NEWROUTE, RTN_UNICAST, "0.0.0.0", 0, RT_TABLE_MAIN);
    put_route(&out, RTM_DELROUTE, RTN_BLACKHOLE, "10.0.0.0", 8, RT_TABLE_MAIN);
    CHECK(!routes_concern(out.data, out.len));
    put_route(&out, RTM_DELROUTE, RTN_LOCAL, "10.0.0.1", 32, RT_TABLE_LOCAL);
    CHECK(routes_concern(out.data, out.len));
    out.len = 0;
    put_message(&out, RTM_NEWADDR, 0, NULL, 0);
    CHECK(routes_concern(out.data, out.len));
}

/* ------------------------------------------------------------------------------- kernel itself */

static struct host *look(struct routes *r)
{
    struct host_list l = {0};
    int ret;
    while ((ret = routes_read(r, &l)) == -EAGAIN)
        host_list_free(&l);
    CHECK_EQ(ret, 0);
    return make(&l);
}

static void run(const char *command)
{
    CHECK_EQ(system(command), 0);
}

/* Waits for word of a change, and then for the table that has it. */
static enum host_kind becomes(struct routes *r, const char *text, enum host_kind wanted)
{
    for (;;) {
        struct host *h = look(r);
        enum host_kind kind = ask(h, text);
        host_drop(h);
        struct pollfd p = {.fd = r->events, .events = POLLIN};
        if (kind == wanted || !CHECK(poll(&p, 1, 10000) == 1))
            return kind;
        routes_changed(r);
    }
}

static void every_kind_of_own_address_is_seen(struct routes *r)
{
    run("ip link set lo up; ip link add d0 type veth peer d1; ip link set d0 "
        "addrgenmode none; ip link set d1 addrgenmode none; ip link set d1 up; ip link set d0 "
        "up");
    run("ip addr add 9.9.9.1/32 dev d0; ip addr add 9.9.7.1/24 dev d0");
    run("ip addr add 9.9.6.1/24 brd + dev d0; ip route add local 9.9.8.0/24 dev lo");
    struct host *h = look(r);
    CHECK_EQ(ask(h, "127.1.2.3"), HOST_LOCAL);
    CHECK_EQ(ask(h, "9.9.9.1"), HOST_LOCAL); /* a /32, which names itself as its broadcast */
    CHECK_EQ(ask(h, "9.9.7.1"), HOST_LOCAL);
    CHECK_EQ(ask(h, "9.9.7.2"), HOST_OTHER);
    CHECK_EQ(ask(h, "9.9.6.1"), HOST_LOCAL);
    CHECK_EQ(ask(h, "9.9.6.255"), HOST_BROADCAST);
    CHECK_EQ(ask(h, "9.9.8.7"), HOST_LOCAL); /* AnyIP */
    CHECK_EQ(ask(h, "9.9.5.1"), HOST_OTHER);
    host_drop(h);
}

static void ipv6_anycast_and_tentative_addresses_are_seen(struct routes *r)
{
    if (access("/proc/sys/net/ipv6/conf/all/forwarding", W_OK) != 0)
        return; /* a kernel without IPv6 */
    run("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    run("ip addr add 2a00:1:2:3::5/64 nodad dev d0");
    CHECK_EQ(becomes(r, "2a00:1:2:3::5", HOST_LOCAL), HOST_LOCAL);
    CHECK_EQ(becomes(r, "2a00:1:2:3::", HOST_ANYCAST), HOST_ANYCAST);
    run("ip addr add 2a00:1:2:4::5/64 dev d0"); /* tentative for a second, or as long as it likes */
    CHECK_EQ(becomes(r, "2a00:1:2:4::5", HOST_LOCAL), HOST_LOCAL);
    run("ip addr del 2a00:1:2:4::5/64 dev d0"); /* or it changes once more, some time later */
}

static void changes_are_told_and_foreign_routes_are_not(struct routes *r)
{
    while (routes_changed(r))
        ;
    run("ip route add 10.9.0.0/16 dev d0; ip route del 10.9.0.0/16 dev d0");
    CHECK(!routes_changed(r));
    run("ip addr add 9.9.4.1/32 dev d0");
    CHECK(routes_changed(r));
    CHECK_EQ(becomes(r, "9.9.4.1", HOST_LOCAL), HOST_LOCAL);
    run("ip addr del 9.9.4.1/32 dev d0");
    CHECK(routes_changed(r));
    CHECK_EQ(becomes(r, "9.9.4.1", HOST_OTHER), HOST_OTHER);
}

static void an_overrun_means_that_something_changed(struct routes *r)
{
    int small = 1;
    while (routes_changed(r))
        ;
    CHECK_EQ(setsockopt(r->events, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    run("for i in $(seq 1 100); do echo route add 10.8.$i.0/24 dev d0; done | ip -batch -");
    CHECK(routes_changed(r)); /* routes to elsewhere, and too many of them */
}

static void more_than_one_datagram_holds_is_read(struct routes *r)
{
    run("for i in $(seq 0 1999); do echo addr add 11.0.$((i / 250)).$((i % 250 + 1))/32 dev d0; "
        "done | ip -batch -");
    struct host *h = look(r);
    CHECK_EQ(ask(h, "11.0.0.1"), HOST_LOCAL);
    CHECK_EQ(ask(h, "11.0.7.250"), HOST_LOCAL);
    CHECK_EQ(ask(h, "11.0.7.251"), HOST_OTHER);
    host_drop(h);
}

static void with_the_kernel(void)
{
    struct routes r;
    test_begin("the kernel answers");
    if (unshare(CLONE_NEWNET) != 0) {
        CHECK_EQ(errno, EPERM); /* only root has networks to play with */
        return;
    }
    if (!CHECK_EQ(routes_open(&r), 0))
        return;
#define WITH(f) (test_begin(#f), f(&r))
    WITH(every_kind_of_own_address_is_seen);
    WITH(ipv6_anycast_and_tentative_addresses_are_seen);
    WITH(changes_are_told_and_foreign_routes_are_not);
    WITH(more_than_one_datagram_holds_is_read);
    WITH(an_overrun_means_that_something_changed);
    routes_close(&r);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(nothing_is_own_without_routes);
    RUN(the_longest_prefix_decides);
    RUN(the_ends_of_the_numbers_count);
    RUN(an_own_address_is_no_broadcast_address);
    RUN(number_257_is_as_known_as_the_first);
    RUN(equal_is_what_means_the_same);
    RUN(a_dump_is_read_to_its_end);
    RUN(tables_of_others_count_but_for_their_default);
    RUN(a_torn_or_failed_dump_is_none);
    RUN(cut_and_lying_messages_add_nothing_wrong);
    RUN(only_what_is_ours_concerns_us);
    with_the_kernel();
    return test_end("host");
}
