/*
 * Addresses: wire, kernel and text forms agree, and none takes what is not an address.
 */
#include "addr.h"

#include <arpa/inet.h>

#include "test.h"

static const uint8_t v4[4] = {192, 0, 2, 1};
static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

static void wire(void)
{
    test_begin("from the wire");
    struct addr a = addr_from_v4(v4, 3478);
    static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    CHECK_EQ(a.family, ADDR_V4);
    CHECK_EQ(a.port, 3478);
    CHECK_EQ(a.scope, 0);
    CHECK_MEM(a.ip, mapped, 16);
    CHECK_MEM(addr_v4(&a), v4, 4);

    struct addr b = addr_from_v6(v6, 80);
    CHECK_EQ(b.family, ADDR_V6);
    CHECK_EQ(b.port, 80);
    CHECK_MEM(b.ip, v6, 16);

    test_begin("a v4-mapped IPv6 address is not the IPv4 address");
    struct addr disguise = addr_from_v6(mapped, 3478);
    CHECK_EQ(disguise.family, ADDR_V6);
    CHECK(!addr_equal(&disguise, &a));
    CHECK(!addr_ip_equal(&disguise, &a));
}

static void equality(void)
{
    test_begin("equality");
    struct addr a = addr_from_v6(v6, 80), b = a;
    CHECK(addr_equal(&a, &b));
    b.scope = 3;
    b.pad = 9;
    CHECK(addr_equal(&a, &b));
    b.port = 81;
    CHECK(!addr_equal(&a, &b));
    CHECK(addr_ip_equal(&a, &b));
    b.ip[15] ^= 1;
    CHECK(!addr_ip_equal(&a, &b));
}

static void kernel(void)
{
    struct sockaddr_storage ss;
    struct addr a = addr_from_v4(v4, 0x1234), back;

    test_begin("sockaddr round trip, IPv4");
    socklen_t len = addr_to_sockaddr(&a, &ss);
    CHECK_EQ(len, sizeof(struct sockaddr_in));
    CHECK_EQ(((const struct sockaddr_in *)&ss)->sin_port, htons(0x1234));
    CHECK(addr_from_sockaddr(&back, (const struct sockaddr *)&ss, len));
    CHECK(addr_equal(&a, &back));

    test_begin("sockaddr round trip, IPv6 with scope");
    a = addr_from_v6(v6, 65535);
    a.scope = 7;
    len = addr_to_sockaddr(&a, &ss);
    CHECK_EQ(len, sizeof(struct sockaddr_in6));
    CHECK(addr_from_sockaddr(&back, (const struct sockaddr *)&ss, len));
    CHECK(addr_equal(&a, &back));
    CHECK_EQ(back.scope, 7);

    test_begin("no address, no sockaddr");
    struct addr none = {0};
    CHECK_EQ(addr_to_sockaddr(&none, &ss), 0);

    test_begin("a cut or foreign sockaddr is refused and out untouched");
    for (unsigned family = 0; family < 2; family++) {
        a = family ? addr_from_v6(v6, 1) : addr_from_v4(v4, 1);
        len = addr_to_sockaddr(&a, &ss);
        for (socklen_t cut = 0; cut < len; cut++) {
            uint8_t *copy = test_exact(&ss, cut);
            back = none;
            CHECK(!addr_from_sockaddr(&back, (const struct sockaddr *)(const void *)copy, cut));
            CHECK_EQ(back.family, ADDR_NONE);
            free(copy);
        }
    }
    ss.ss_family = AF_UNIX;
    CHECK(!addr_from_sockaddr(&back, (const struct sockaddr *)&ss, sizeof(ss)));

    test_begin("a v4-mapped sockaddr stays IPv6");
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(5)};
    inet_pton(AF_INET6, "::ffff:192.0.2.1", &in6.sin6_addr);
    CHECK(addr_from_sockaddr(&back, (const struct sockaddr *)&in6, sizeof(in6)));
    CHECK_EQ(back.family, ADDR_V6);
}

static void text(void)
{
    static const struct {
        const char *ip;
        uint16_t port;
        const char *with_port;
        int family;
    } good[] = {
        {"192.0.2.1", 80, "192.0.2.1:80", ADDR_V4},
        {"0.0.0.0", 0, "0.0.0.0:0", ADDR_V4},
        {"255.255.255.255", 65535, "255.255.255.255:65535", ADDR_V4},
        {"2001:db8::1", 80, "[2001:db8::1]:80", ADDR_V6},
        {"::", 0, "[::]:0", ADDR_V6},
        {"::ffff:192.0.2.1", 1, "[::ffff:192.0.2.1]:1", ADDR_V6},
        {"fe80::1%2", 9, "[fe80::1%2]:9", ADDR_V6},
        {"fe80:1111:2222:3333:4444:5555:6666:7777%4294967295", 65535,
         "[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535", ADDR_V6},
    };
    static const char *const bad[] = {
        "",
        "localhost",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1:80",
        "[::1]",
        "::1:",
        "2001:db8",
        "fe80::1%",
        "fe80::1%eth0",
        "fe80::1%-1",
        "fe80::1%4294967296",
        "fe80::1%18446744073709551617",
        "192.0.2.1%1",
        "%1",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff",
    };
    char buf[ADDR_TEXT_MAX];
    struct addr a;

    test_begin("text round trip");
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        if (!CHECK(addr_parse(&a, good[i].ip, good[i].port)))
            continue;
        CHECK_EQ(a.family, good[i].family);
        CHECK_EQ(a.port, good[i].port);
        CHECK_STR(addr_format_ip(&a, buf), good[i].ip);
        CHECK_STR(addr_format(&a, buf), good[i].with_port);
    }
    test_begin("text that is no IP literal");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        a = (struct addr){0};
        CHECK(!addr_parse(&a, bad[i], 1));
        CHECK_EQ(a.family, ADDR_NONE);
    }
    test_begin("text of no address");
    a = (struct addr){0};
    CHECK_STR(addr_format(&a, buf), "-");
    CHECK_STR(addr_format_ip(&a, buf), "-");
}

static void any(void)
{
    struct addr a;
    test_begin("the any address");
    CHECK(addr_parse(&a, "0.0.0.0", 1) && addr_is_any(&a));
    CHECK(addr_parse(&a, "::", 1) && addr_is_any(&a));
    CHECK(addr_parse(&a, "0.0.0.1", 1) && !addr_is_any(&a));
    CHECK(addr_parse(&a, "::1", 1) && !addr_is_any(&a));
    CHECK(addr_parse(&a, "::ffff:0.0.0.0", 1) && !addr_is_any(&a));
    a = (struct addr){0};
    CHECK(!addr_is_any(&a));
}

static bool bit(const uint8_t ip[16], unsigned i)
{
    return ip[i / 8] >> (7 - i % 8) & 1;
}

static void prefix(void)
{
    test_begin("prefixes agree with a bit by bit comparison");
    uint8_t a[16], b[16];
    for (unsigned flip = 0; flip <= 128; flip++) {
        memcpy(a, v6, 16);
        memcpy(b, v6, 16);
        if (flip < 128)
            b[flip / 8] ^= (uint8_t)(0x80 >> flip % 8);
        for (unsigned bits = 0; bits <= 128; bits++) {
            bool want = true;
            for (unsigned i = 0; i < bits; i++)
                want = want && bit(a, i) == bit(b, i);
            CHECK_EQ(addr_in_prefix(a, b, bits), want);
        }
    }
    test_begin("an IPv4 prefix is 96 bits longer");
    struct addr net, in, out;
    CHECK(addr_parse(&net, "10.16.0.0", 0) && addr_parse(&in, "10.31.255.255", 0) &&
          addr_parse(&out, "10.32.0.0", 0));
    CHECK(addr_in_prefix(in.ip, net.ip, 96 + 12));
    CHECK(!addr_in_prefix(out.ip, net.ip, 96 + 12));
    CHECK(addr_in_prefix(out.ip, net.ip, 96 + 8));
}

int main(void)
{
    wire();
    equality();
    kernel();
    text();
    any();
    prefix();
    return test_end("addr");
}
