/*
 * ClientHellos: names and protocols, every split of bytes and of records, hellos of several
 * kilobytes, what is stepped over and what is refused; and where a connection then belongs
 * (threat X99; field: port 443).
 */
#include "hello.h"

#include "bytes.h"
#include "front.h"
#include "test.h"

enum { CAP = 70000 };

static uint8_t scratch[HELLO_MAX];

static enum hello_result read_copy(const uint8_t *data, size_t len, struct hello *h)
{
    uint8_t *copy = test_exact(data, len);
    enum hello_result r = hello_read(copy, len, scratch, h);
    free(copy);
    return r;
}

/* ------------------------------------------------------------------------------------- building */

static uint8_t message[CAP], net[CAP];
static struct wbytes m;

/* What comes before the extensions. */
static void start(void)
{
    static const uint8_t random[32] = {1, 2, 3};
    m = wbytes_of(message + 4, sizeof(message) - 4);
    wbytes_put16(&m, 0x0303);
    wbytes_put(&m, random, sizeof(random));
    wbytes_put8(&m, 32); /* session */
    wbytes_put(&m, random, 32);
    wbytes_put16(&m, 6); /* ciphers, the first one GREASE */
    wbytes_put(&m, "\x2a\x2a\x13\x01\x13\x02", 6);
    wbytes_put8(&m, 1); /* compressions */
    wbytes_put8(&m, 0);
}

static uint8_t *extensions; /* where their length is to stand */

static void start_extensions(void)
{
    extensions = wbytes_room(&m, 2);
}

static void add_extension(uint16_t type, const void *data, size_t len)
{
    wbytes_put16(&m, type);
    wbytes_put16(&m, (uint16_t)len);
    wbytes_put(&m, data, len);
}

static void add_name(const char *name)
{
    uint8_t b[600];
    size_t len = strlen(name);
    store16(b, (uint16_t)(len + 3));
    b[2] = 0;
    store16(b + 3, (uint16_t)len);
    memcpy(b + 5, name, len);
    add_extension(0, b, len + 5);
}

static void add_protocol(const char *name)
{
    uint8_t b[64];
    size_t len = strlen(name);
    store16(b, (uint16_t)(len + 1 + 3));
    memcpy(b + 2, "\2\x4a\x4a", 3); /* GREASE first */
    b[5] = (uint8_t)len;
    memcpy(b + 6, name, len);
    add_extension(16, b, len + 6);
}

/* In records of at most so many bytes of the message; how many bytes of the network. */
static size_t finish(size_t record)
{
    size_t len = wbytes_len(&m), at = 0;
    struct wbytes out = wbytes_of(net, sizeof(net));
    if (extensions)
        store16(extensions, (uint16_t)(m.p - extensions - 2));
    store32(message, 1u << 24 | (uint32_t)len);
    for (len += 4; at < len; at += MIN(record, len - at)) {
        wbytes_put8(&out, 22);
        wbytes_put16(&out, 0x0301);
        wbytes_put16(&out, (uint16_t)MIN(record, len - at));
        wbytes_put(&out, message + at, MIN(record, len - at));
    }
    extensions = NULL;
    return wbytes_len(&out);
}

/* As Chromium sends it: a key share of 1.2 KB stands before the name. */
static size_t post_quantum(size_t record)
{
    static const uint8_t share[1216];
    start();
    start_extensions();
    add_extension(0x4a4a, NULL, 0);
    add_extension(51, share, sizeof(share));
    add_name("Turn.Example.ORG");
    add_protocol("h2");
    add_extension(21, share, 400);
    return finish(record);
}

static void check_whole(const uint8_t *data, size_t len)
{
    struct hello h;
    CHECK_EQ(read_copy(data, len, &h), HELLO_WHOLE);
    CHECK_STR(h.name, "turn.example.org");
    CHECK(h.offers && !h.offers_ours);
}

/* -------------------------------------------------------------------------------------- reading */

static void every_split(void)
{
    struct hello h;
    size_t len = post_quantum(16384);
    test_begin("a hello in pieces: no verdict before its end");
    CHECK(len > 1700);
    for (size_t n = 0; n < len; n++)
        CHECK_EQ(read_copy(net, n, &h), HELLO_MORE);
    check_whole(net, len);
    net[len] = 20; /* what comes behind it is of no interest */
    check_whole(net, len + 1);
    test_begin("a hello in records of any size");
    static const size_t sizes[] = {1, 2, 3, 4, 5, 7, 100, 512, 1460};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        len = post_quantum(sizes[i]);
        CHECK_EQ(read_copy(net, len - 1, &h), HELLO_MORE);
        check_whole(net, len);
    }
    len = post_quantum(700);
    for (size_t n = 0; n < len; n += 13)
        CHECK_EQ(read_copy(net, n, &h), HELLO_MORE);
}

static void without(void)
{
    struct hello h;
    test_begin("a hello without extensions, or without a name");
    start();
    CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
    CHECK(!h.name_len && !h.offers);
    start();
    start_extensions();
    CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
    CHECK(!h.name_len && !h.offers);
    test_begin("a hello with one of our protocols");
    start();
    start_extensions();
    add_protocol("stun.turn");
    CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
    CHECK(h.offers && h.offers_ours);
}

static void names(void)
{
    static const char *const none[] = {"", "a b", "\x80", "name/../x", "."};
    struct hello h;
    char longest[HELLO_NAME_MAX + 2];
    memset(longest, 'a', sizeof(longest));
    longest[HELLO_NAME_MAX] = '\0';
    test_begin("names that can be none are none");
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        start();
        start_extensions();
        add_name(none[i]);
        CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
        CHECK_EQ(h.name_len, 0);
    }
    start();
    start_extensions();
    add_name(longest);
    CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
    CHECK_EQ(h.name_len, HELLO_NAME_MAX);
    longest[HELLO_NAME_MAX] = 'a';
    longest[HELLO_NAME_MAX + 1] = '\0';
    start();
    start_extensions();
    add_extension(0, "\0\7\0\0\4a\0b\0", 9);
    CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
    CHECK_EQ(h.name_len, 0);
    test_begin("a dot at the end is the same name");
    start();
    start_extensions();
    add_name("turn.example.org.");
    CHECK_EQ(read_copy(net, finish(16384), &h), HELLO_WHOLE);
    CHECK_STR(h.name, "turn.example.org");
}

static void refused(void)
{
    struct hello h;
    test_begin("what is no hello");
    CHECK_EQ(read_copy((const uint8_t *)"\x80\x2e\x01\x03\x01", 5, &h), HELLO_BAD); /* SSL 2 */
    CHECK_EQ(read_copy((const uint8_t *)"GET / HTTP", 10, &h), HELLO_BAD);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x02\x00", 3, &h), HELLO_BAD);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x00\x00", 5, &h), HELLO_BAD);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x40\x01", 5, &h), HELLO_BAD);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x00\x04\x02\0\0\0", 9, &h), HELLO_BAD);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x00\x01\x01\x17", 7, &h), HELLO_BAD);
    test_begin("a hello that is too long is refused as soon as it says so");
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x00\x04\x01\0\x3f\0", 9, &h), HELLO_MORE);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x00\x04\x01\0\x40\0", 9, &h), HELLO_BAD);
    CHECK_EQ(read_copy((const uint8_t *)"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, &h), HELLO_BAD);
    test_begin("a hello of more bytes than are looked at");
    memset(message, 0, sizeof(message));
    start();
    m.p += 16000;
    CHECK_EQ(read_copy(net, finish(1), &h), HELLO_BAD);
    test_begin("a hello whose parts do not fit");
    size_t len = post_quantum(16384);
    unsigned bad = 0;
    for (size_t i = 9; i < len; i++) {
        net[i] ^= 0xff;
        enum hello_result r = read_copy(net, len, &h);
        CHECK(r == HELLO_WHOLE || r == HELLO_BAD);
        bad += r == HELLO_BAD;
        net[i] ^= 0xff;
    }
    CHECK(bad > 20);
}

/* ------------------------------------------------------------------------------- where it belongs
 */

static uint8_t table[512];

static void add_row(struct wbytes *t, const char *name, const char *ip)
{
    wbytes_put8(t, (uint8_t)strlen(name));
    wbytes_put(t, name, strlen(name));
    struct addr a = {0};
    if (!ip) {
        wbytes_put8(t, 0);
        return;
    }
    CHECK(addr_parse(&a, ip, 443));
    wbytes_put8(t, a.family);
    wbytes_put16(t, a.port);
    wbytes_put(t, a.ip + (a.family == ADDR_V4 ? 12 : 0), a.family == ADDR_V4 ? 4 : 16);
}

static struct front *front_of(struct wbytes *t)
{
    return front_make(bytes_of("", 0), false, bytes_of(table, wbytes_len(t)), false);
}

/* A verdict, and the last byte of the address that goes with it. */
static void judged(const struct front *f, const char *name, enum front_verdict v, int last)
{
    const struct addr *backend;
    CHECK_EQ(front_judge(f, name, &backend), v);
    CHECK_EQ(backend ? backend->ip[15] : -1, last);
}

static void places(void)
{
    struct wbytes t = wbytes_of(table, sizeof(table));
    test_begin("names and their web servers");
    add_row(&t, "www.example.org", "192.0.2.1");
    add_row(&t, "*.example.net", "2001:db8::2");
    add_row(&t, "mail.example.net", "192.0.2.3");
    struct front *f = front_of(&t);
    CHECK(front_reads_hello(f) && !front_reads_hello(NULL));
    judged(f, "www.example.org", FRONT_WEB, 1);
    judged(f, "a.example.net", FRONT_WEB, 2);
    judged(f, "mail.example.net", FRONT_WEB, 3); /* the name itself comes first */
    judged(f, "a.b.example.net", FRONT_UNNAMED, -1);
    judged(f, ".example.net", FRONT_UNNAMED, -1);
    judged(f, "example.net", FRONT_UNNAMED, -1);
    CHECK(!front_default(f));
    front_drop(f);
    test_begin("a web server for all other names");
    add_row(&t, "", "192.0.2.9");
    f = front_of(&t);
    judged(f, "turn.example.org", FRONT_UNNAMED, 9); /* unless a certificate has it */
    front_drop(f);
    test_begin("names that are ours, and no others then");
    add_row(&t, "turn.example.org", NULL);
    f = front_of(&t);
    judged(f, "turn.example.org", FRONT_OURS, -1);
    judged(f, "other.example.org", FRONT_WEB, 9);
    front_drop(f);
    test_begin("rows that are none");
    for (size_t n = 1; n < wbytes_len(&t); n++) {
        struct wbytes part = t;
        part.p = table + n;
        front_drop(front_of(&part)); /* whole rows, or NULL: nothing is read beyond */
    }
    CHECK(!front_make(bytes_of("", 0), false, bytes_of("\1a\4\0\0\1\2\3\4", 9), false));
    CHECK(!front_make(bytes_of("", 0), false, bytes_of("\1a\5\0\1\1\2\3\4", 9), false));
    CHECK(!front_make(bytes_of("\x81", 1), false, bytes_of("", 0), false));
}

static void proxies(void)
{
    struct addr near = {0}, far = {0}, v6 = {0};
    uint8_t networks[34] = {[0] = 96 + 24, [11] = 0xff, [12] = 0xff, [13] = 10,   [16] = 0,
                            [17] = 32,     [18] = 0x20, [19] = 0x01, [20] = 0x0d, [21] = 0xb8};
    CHECK(addr_parse(&near, "10.0.0.200", 1) && addr_parse(&far, "10.0.1.1", 1) &&
          addr_parse(&v6, "2001:db8:1::1", 1));
    test_begin("proxies by their networks");
    struct front *f =
        front_make(bytes_of(networks, sizeof(networks)), true, bytes_of("", 0), false);
    CHECK(front_is_proxy(f, &near) && !front_is_proxy(f, &far) && front_is_proxy(f, &v6));
    CHECK(front_is_proxy_of_datagrams(f, &near) && !front_is_proxy_of_datagrams(f, &far));
    CHECK(!front_reads_hello(f) && !front_is_proxy(NULL, &near));
    front_drop(front_hold(f));
    front_drop(f);
    f = front_make(bytes_of(networks, 17), false, bytes_of("", 0), false);
    CHECK(front_is_proxy(f, &near) && !front_is_proxy_of_datagrams(f, &near));
    front_drop(f);
    /* All of IPv6 is not IPv4. */
    memset(networks, 0, 17);
    f = front_make(bytes_of(networks, 17), false, bytes_of("", 0), false);
    CHECK(front_is_proxy(f, &v6) && !front_is_proxy(f, &near));
    front_drop(f);
}

int main(void)
{
    every_split();
    without();
    names();
    refused();
    places();
    proxies();
    return test_end("hello");
}
