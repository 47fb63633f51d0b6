/*
 * Headers of the PROXY protocol: both versions, every split, addresses and none, TLVs, the
 * checksum, and what is refused (field: connections from proxies).
 */
#include "proxy.h"

#include "bytes.h"
#include "crypto.h"
#include "test.h"

enum { CAP = 8192 };

static const uint8_t signature[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                    0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static struct addr at(const char *ip, uint16_t port)
{
    struct addr a = {0};
    CHECK(addr_parse(&a, ip, port));
    return a;
}

static enum proxy_result read_copy(const void *data, size_t len, struct proxy_header *h)
{
    uint8_t *copy = test_exact(data, len);
    enum proxy_result r = proxy_read(copy, len, h);
    free(copy);
    return r;
}

static enum proxy_result read_line(const char *line, struct proxy_header *h)
{
    return read_copy(line, strlen(line), h);
}

/* Whole with whatever comes behind it, and the beginning of one before. */
static void check_every_split(const uint8_t *data, size_t len)
{
    struct proxy_header h;
    static uint8_t more[CAP];
    for (size_t n = 0; n < len; n++)
        CHECK_EQ(read_copy(data, n, &h), PROXY_MORE);
    CHECK_EQ(read_copy(data, len, &h), PROXY_WHOLE);
    CHECK_EQ(h.len, len);
    memcpy(more, data, len);
    memset(more + len, 0x16, 64);
    CHECK_EQ(read_copy(more, len + 64, &h), PROXY_WHOLE);
    CHECK_EQ(h.len, len);
}

/* ----------------------------------------------------------------------------------- version 1 */

static void check_told(const struct proxy_header *h, const char *client, uint16_t client_port,
                       const char *server, uint16_t server_port)
{
    struct addr c = at(client, client_port), s = at(server, server_port);
    CHECK(h->announces);
    CHECK(addr_equal(&h->client, &c));
    CHECK(addr_equal(&h->server, &s));
}

static void text(void)
{
    static const char v4[] = "PROXY TCP4 192.0.2.7 203.0.113.5 56324 443\r\n";
    static const char v6[] = "PROXY TCP6 2001:db8::7 2001:db8::5 56324 443\r\n";
    static const char longest[] = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    struct proxy_header h;
    test_begin("version 1 tells addresses");
    CHECK_EQ(read_line(v4, &h), PROXY_WHOLE);
    check_told(&h, "192.0.2.7", 56324, "203.0.113.5", 443);
    CHECK_EQ(read_line(v6, &h), PROXY_WHOLE);
    check_told(&h, "2001:db8::7", 56324, "2001:db8::5", 443);
    test_begin("version 1 in pieces");
    check_every_split((const uint8_t *)v4, strlen(v4));
    check_every_split((const uint8_t *)v6, strlen(v6));
    test_begin("version 1 that knows nothing");
    CHECK_EQ(read_line("PROXY UNKNOWN\r\n", &h), PROXY_WHOLE);
    CHECK(!h.announces);
    CHECK_EQ(strlen(longest), 107);
    CHECK_EQ(read_line(longest, &h), PROXY_WHOLE);
    CHECK(!h.announces);
    check_every_split((const uint8_t *)longest, strlen(longest));
    test_begin("IPv4 told as IPv6 is IPv4");
    CHECK_EQ(read_line("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 1 2\r\n", &h), PROXY_WHOLE);
    check_told(&h, "192.0.2.7", 1, "192.0.2.1", 2);
}

static void text_refused(void)
{
    static const char *const lines[] = {
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 \r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 4294967297\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 -1 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 0 2\r\n", /* nobody sends from there */
        "PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY TCP6 fe80::1%2 fe80::2%2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7.1111111111111111111111111111111111111 192.0.2.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
        "proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n",
        "GET / HTTP/1.1\r\n",
    };
    struct proxy_header h;
    test_begin("version 1 that is none");
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        if (!CHECK_EQ(read_line(lines[i], &h), PROXY_BAD))
            fprintf(stderr, "    %s", lines[i]);
    test_begin("version 1 without an end");
    char endless[200] = "PROXY UNKNOWN ";
    memset(endless + 14, 'x', sizeof(endless) - 14);
    CHECK_EQ(read_copy(endless, 106, &h), PROXY_MORE);
    CHECK_EQ(read_copy(endless, 107, &h), PROXY_BAD);
    CHECK_EQ(read_copy(endless, sizeof(endless), &h), PROXY_BAD);
    CHECK_EQ(read_copy("PROXY TCP4 \0\r\n", 14, &h), PROXY_BAD);
}

/* ----------------------------------------------------------------------------------- version 2 */

static uint8_t header[CAP];
static const uint8_t filler[216];

static void start(uint8_t command, uint8_t family)
{
    memcpy(header, signature, sizeof(signature));
    header[12] = command;
    header[13] = family;
    store16(header + 14, 0);
}

static size_t header_len(void)
{
    return 16 + (size_t)load16(header + 14);
}

static void add(const void *data, size_t len)
{
    if (len)
        memcpy(header + header_len(), data, len);
    store16(header + 14, (uint16_t)(header_len() - 16 + len));
}

static void add_tlv(uint8_t type, const void *value, uint16_t len)
{
    uint8_t head[3] = {type};
    store16(head + 1, len);
    add(head, sizeof(head));
    add(value, len);
}

static void add_v4(void)
{
    static const uint8_t addresses[] = {192, 0, 2, 7, 203, 0, 113, 5, 0xdc, 0x04, 0x01, 0xbb};
    add(addresses, sizeof(addresses));
}

static void add_v6(void)
{
    struct addr c = at("2001:db8::7", 0), s = at("2001:db8::5", 0);
    add(c.ip, 16);
    add(s.ip, 16);
    add((const uint8_t[]){0xdc, 0x04, 0x01, 0xbb}, 4);
}

/* With its sum at the end of what there is. */
static void add_sum(void)
{
    add_tlv(3, "\0\0\0\0", 4);
    store32(header + header_len() - 4, crypto_crc32c(0, header, header_len()));
}

static enum proxy_result read_header(struct proxy_header *h)
{
    return read_copy(header, header_len(), h);
}

static void binary(void)
{
    struct proxy_header h;
    test_begin("version 2 tells addresses, of streams and of datagrams");
    for (uint8_t protocol = 1; protocol <= 2; protocol++) {
        start(0x21, 0x10 | protocol);
        add_v4();
        CHECK_EQ(read_header(&h), PROXY_WHOLE);
        check_told(&h, "192.0.2.7", 56324, "203.0.113.5", 443);
        start(0x21, 0x20 | protocol);
        add_v6();
        CHECK_EQ(read_header(&h), PROXY_WHOLE);
        check_told(&h, "2001:db8::7", 56324, "2001:db8::5", 443);
        CHECK(proxy_read_datagram(header, header_len(), &h));
    }
    test_begin("version 2 in pieces");
    start(0x21, 0x11);
    add_v4();
    add_tlv(4, "noop", 4);
    add_tlv(0xee, NULL, 0);
    add_sum();
    check_every_split(header, header_len());
    test_begin("version 2 that tells of nobody");
    for (uint8_t family = 0; family < 0x40; family++) {
        start(0x20, family); /* LOCAL: whatever else is there */
        add("\1\2\3", 3);
        CHECK_EQ(read_header(&h), PROXY_WHOLE);
        CHECK(!h.announces);
    }
    start(0x21, 0x00); /* neither IP nor known */
    CHECK_EQ(read_header(&h), PROXY_WHOLE);
    CHECK(!h.announces && h.len == 16);
    start(0x21, 0x31); /* a socket in the file system */
    add(filler, 216);
    CHECK_EQ(read_header(&h), PROXY_WHOLE);
    CHECK(!h.announces && h.len == 16 + 216);
}

static void binary_refused(void)
{
    struct proxy_header h;
    static uint8_t big[PROXY_HEADER_MAX];
    test_begin("version 2 of another version or command");
    for (unsigned command = 0; command < 256; command++) {
        start((uint8_t)command, 0x11);
        add_v4();
        CHECK_EQ(read_header(&h), command == 0x20 || command == 0x21 ? PROXY_WHOLE : PROXY_BAD);
    }
    test_begin("version 2 with too little for its addresses");
    for (uint8_t n = 0; n < 12; n++) {
        start(0x21, 0x11);
        add(big, n);
        CHECK_EQ(read_header(&h), PROXY_BAD);
    }
    start(0x21, 0x21);
    add_v4();
    CHECK_EQ(read_header(&h), PROXY_BAD);
    test_begin("version 2 of a client at port 0");
    start(0x21, 0x11);
    add(big, 12);
    CHECK_EQ(read_header(&h), PROXY_BAD);
    test_begin("a TLV that is not whole");
    start(0x21, 0x11);
    add_v4();
    add("\4\0", 2);
    CHECK_EQ(read_header(&h), PROXY_BAD);
    start(0x21, 0x11);
    add_v4();
    add("\4\0\2x", 4);
    CHECK_EQ(read_header(&h), PROXY_BAD);
    test_begin("as long as may be, and longer");
    start(0x21, 0x11);
    add_v4();
    add_tlv(0xe0, big, PROXY_HEADER_MAX - 16 - 12 - 3);
    CHECK_EQ(header_len(), PROXY_HEADER_MAX);
    CHECK_EQ(read_header(&h), PROXY_WHOLE);
    add("\0", 1);
    CHECK_EQ(read_header(&h), PROXY_BAD);
    CHECK_EQ(read_copy(header, 16, &h), PROXY_BAD); /* as soon as it says so */
}

static void sum(void)
{
    struct proxy_header h;
    test_begin("CRC-32C of the published vectors");
    CHECK_EQ(crypto_crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_EQ(crypto_crc32c(crypto_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    test_begin("a checksum that is right, and none that is not");
    start(0x21, 0x21);
    add_v6();
    add_sum();
    size_t len = header_len();
    CHECK_EQ(read_header(&h), PROXY_WHOLE);
    for (size_t i = 16; i < len; i++) {
        if (i >= len - 7 && i < len - 4)
            continue; /* type and length of the checksum itself: then it is none */
        header[i] ^= 0x40;
        CHECK_EQ(read_header(&h), PROXY_BAD);
        header[i] ^= 0x40;
    }
    test_begin("a checksum of another length");
    start(0x21, 0x11);
    add_v4();
    add_tlv(3, "12345", 5);
    CHECK_EQ(read_header(&h), PROXY_BAD);
}

/* ----------------------------------------------------------------------------------- the others */

static void datagrams(void)
{
    struct proxy_header h;
    static const char v1[] = "PROXY TCP4 192.0.2.7 203.0.113.5 56324 443\r\n";
    test_begin("a datagram has version 2, whole");
    start(0x21, 0x12);
    add_v4();
    for (size_t n = 0; n < header_len(); n++)
        CHECK(!proxy_read_datagram(header, n, &h));
    CHECK(proxy_read_datagram(header, header_len(), &h));
    CHECK(!proxy_read_datagram((const uint8_t *)v1, strlen(v1), &h));
}

static void seems(void)
{
    test_begin("what begins as a header does is known for one");
    start(0x21, 0x11);
    CHECK(proxy_seems(header, 12));
    CHECK(!proxy_seems(header, 11));
    CHECK(proxy_seems((const uint8_t *)"PROXY TCP4", 10));
    CHECK(!proxy_seems((const uint8_t *)"PROPFIND /", 10));
    CHECK(!proxy_seems((const uint8_t *)"", 0));
}

static void built(void)
{
    struct proxy_header h;
    uint8_t out[PROXY_BUILT_MAX];
    struct addr c4 = at("192.0.2.7", 1025), s4 = at("203.0.113.5", 443);
    struct addr c6 = at("2001:db8::7", 1025), s6 = at("2001:db8::5", 443);
    test_begin("what is written is what is read");
    size_t len = proxy_build(out, &c4, &s4);
    CHECK_EQ(len, 28);
    CHECK_EQ(read_copy(out, len, &h), PROXY_WHOLE);
    check_told(&h, "192.0.2.7", 1025, "203.0.113.5", 443);
    len = proxy_build(out, &c6, &s6);
    CHECK_EQ(len, PROXY_BUILT_MAX);
    CHECK_EQ(read_copy(out, len, &h), PROXY_WHOLE);
    check_told(&h, "2001:db8::7", 1025, "2001:db8::5", 443);
    len = proxy_build(out, &c4, &s6); /* of two families */
    CHECK_EQ(len, PROXY_BUILT_MAX);
    CHECK_EQ(read_copy(out, len, &h), PROXY_WHOLE);
    check_told(&h, "192.0.2.7", 1025, "2001:db8::5", 443);
}

int main(void)
{
    text();
    text_refused();
    binary();
    binary_refused();
    sum();
    datagrams();
    seems();
    built();
    return test_end("proxy");
}
