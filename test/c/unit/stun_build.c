/*
 * The builder: what it writes is read back the same, it never writes beyond its buffer, and what it
 * pads with is zero.
 */
#include "stun_kit.h"

/* One of every kind, both families, both signatures; the length, 0 when cap is too small. */
static size_t build_all(uint8_t *buf, size_t cap)
{
    static const uint16_t codes[] = {0x7fff, 0x0003, 0x0026};
    struct addr a4 = addr_from_v4(v4, 3478), a6 = addr_from_v6(v6, 49152);
    struct stun_builder b;
    stun_build_start(&b, buf, cap, STUN_ERROR, STUN_ALLOCATE, txid);
    stun_put_bytes(&b, A_username, "alice", 5);
    stun_put_bytes(&b, A_data, NULL, 0);
    stun_put_uint(&b, A_dont_fragment, 1);
    stun_put_uint(&b, A_even_port, 1);
    stun_put_uint(&b, A_even_port, 0);
    stun_put_uint(&b, A_requested_transport, 17);
    stun_put_uint(&b, A_channel_number, 0x4001);
    stun_put_uint(&b, A_response_port, 0x1234);
    stun_put_uint(&b, A_lifetime, 600);
    stun_put_uint(&b, A_reservation_token, 0x0102030405060708);
    stun_put_addr(&b, A_xor_relayed_address, &a4);
    stun_put_addr(&b, A_xor_peer_address, &a6);
    stun_put_addr(&b, A_mapped_address, &a4);
    stun_put_addr(&b, A_alternate_server, &a6);
    stun_put_error(&b, 401, NULL);
    stun_put_error(&b, 699, "because");
    stun_put_address_error(&b, 2, 440);
    stun_put_unknown(&b, codes, ARRAY_SIZE(codes));
    stun_put_raw(&b, 0xc0de, "raw", 3);
    stun_put_integrity(&b, key, strlen(key));
    stun_put_integrity_sha256(&b, key, strlen(key));
    stun_put_fingerprint(&b);
    return stun_build_end(&b);
}

static void builder_overflow(void)
{
    static uint8_t full[1024];
    size_t len = build_all(full, sizeof(full));
    test_begin("the builder fails at every capacity but the full, and never writes beyond");
    CHECK(len > 200 && len % 4 == 0);
    for (size_t cap = 0; cap < len + 8; cap++) {
        uint8_t *buf = malloc(cap + 1);
        if (!buf)
            abort();
        buf[cap] = 0x5a;
        CHECK_EQ(build_all(buf, cap), cap < len ? 0 : len);
        CHECK_EQ(buf[cap], 0x5a);
        if (cap >= len)
            CHECK_MEM(buf, full, len);
        free(buf);
        uint8_t *exact = test_exact(full, cap < len ? cap : len); /* for the sanitizer */
        CHECK_EQ(build_all(exact, cap < len ? cap : len), cap < len ? 0 : len);
        free(exact);
    }
    test_begin("the builder fails beyond the longest message, and on no address");
    static uint8_t big[70000];
    struct stun_builder b;
    for (size_t extra = 0; extra < 8; extra++) {
        stun_build_start(&b, big, sizeof(big), STUN_INDICATION, STUN_SEND, txid);
        stun_put_bytes(&b, A_data, full, 0);
        stun_put_bytes(&b, A_data, raw.bytes, STUN_LEN_MAX - 31 + extra);
        CHECK_EQ(stun_build_end(&b), extra <= 3 ? STUN_LEN_MAX : 0);
    }
    stun_build_start(&b, big, sizeof(big), STUN_INDICATION, STUN_SEND, txid);
    CHECK(stun_put_room(&b, 0x0013, SIZE_MAX) == NULL);
    CHECK(stun_put_room(&b, 0x0013, 0) == NULL); /* once failed stays failed */
    CHECK_EQ(stun_build_end(&b), 0);
    struct addr none = {0};
    stun_build_start(&b, big, sizeof(big), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, &none);
    CHECK_EQ(stun_build_end(&b), 0);
}

static void check_addr(const struct stun_view *v, enum stun_attr_id id, const struct addr *want)
{
    struct addr a;
    if (CHECK_EQ(stun_get_addr(v, id, &a), STUN_OK))
        CHECK(addr_equal(&a, want));
}

static void round_trip(void)
{
    static uint8_t buf[1024];
    size_t len = build_all(buf, sizeof(buf));
    struct addr a4 = addr_from_v4(v4, 3478), a6 = addr_from_v6(v6, 49152);
    struct stun_view v;
    struct stun_iter it;
    const uint8_t *value, *copy = test_exact(buf, len);
    size_t n;
    uint16_t code;
    uint8_t family;

    test_begin("every kind there and back");
    CHECK_EQ(stun_parse(&v, copy, len), STUN_OK);
    CHECK_EQ(v.cls, STUN_ERROR);
    CHECK_EQ(v.method, STUN_ALLOCATE);
    CHECK_MEM(v.txid, txid, STUN_TXID_LEN);
    CHECK(v.has_fingerprint);
    CHECK_EQ(v.counted_end, len);
    CHECK_EQ(stun_get_bytes(&v, A_username, &value, &n), STUN_OK);
    CHECK_BYTES(value, n, "alice", 5);
    CHECK_EQ(stun_get_bytes(&v, A_data, &value, &n), STUN_OK);
    CHECK_EQ(n, 0);
    CHECK_EQ(get_uint(&v, A_dont_fragment), 1);
    CHECK_EQ(get_uint(&v, A_even_port), 1);
    CHECK_EQ(get_uint(&v, A_requested_transport), 17);
    CHECK_EQ(get_uint(&v, A_channel_number), 0x4001);
    CHECK_EQ(get_uint(&v, A_response_port), 0x1234);
    CHECK_EQ(get_uint(&v, A_lifetime), 600);
    CHECK_EQ(get_uint(&v, A_reservation_token), 0x0102030405060708);
    check_addr(&v, A_xor_relayed_address, &a4);
    check_addr(&v, A_xor_peer_address, &a6);
    check_addr(&v, A_mapped_address, &a4);
    check_addr(&v, A_alternate_server, &a6);
    CHECK_EQ(stun_get_error(&v, A_error_code, &code, &family, &value, &n), STUN_OK);
    CHECK_EQ(code, 401);
    CHECK_EQ(n, 0);
    CHECK_EQ(stun_get_error(&v, A_address_error_code, &code, &family, &value, &n), STUN_OK);
    CHECK_EQ(code, 440);
    CHECK_EQ(family, 2);
    CHECK_EQ(stun_get_bytes(&v, A_unknown_attributes, &value, &n), STUN_OK);
    CHECK_BYTES(value, n, "\x7f\xff\x00\x03\x00\x26", 6);
    CHECK(signed_by(&v, false, key, strlen(key)));
    CHECK(signed_by(&v, true, key, strlen(key)));
    CHECK(!signed_by(&v, false, key, strlen(key) - 1));
    CHECK(!signed_by(&v, true, key, strlen(key) - 1));

    test_begin("the walk rebuilds the message");
    static uint8_t again[1024];
    struct stun_builder b;
    stun_build_start(&b, again, sizeof(again), (enum stun_class)v.cls, v.method, v.txid);
    for (stun_iter_init(&it, &v); stun_iter_next(&it);)
        stun_put_raw(&b, it.code, it.value, it.len);
    CHECK_BYTES(again, stun_build_end(&b), copy, len);

    test_begin("a response carries its request's method and id");
    stun_build_response(&b, again, sizeof(again), STUN_SUCCESS, &v);
    CHECK_EQ(stun_build_end(&b), STUN_HEADER_LEN);
    CHECK_EQ(load16(again), 0x0103);
    CHECK_MEM(again + 8, txid, STUN_TXID_LEN);
    free((void *)(uintptr_t)copy);
}

static void widths(void)
{
    static const struct {
        enum stun_attr_id id;
        uint64_t max;
    } rows[] = {
        {A_requested_transport, UINT8_MAX},
        {A_requested_address_family, UINT8_MAX},
        {A_additional_address_family, UINT8_MAX},
        {A_channel_number, UINT16_MAX},
        {A_response_port, UINT16_MAX},
        {A_lifetime, UINT32_MAX},
        {A_priority, UINT32_MAX},
        {A_change_request, UINT32_MAX},
        {A_reservation_token, UINT64_MAX},
        {A_ice_controlled, UINT64_MAX},
        {A_ice_controlling, UINT64_MAX},
        {A_even_port, 1},
    };
    uint8_t buf[64];
    struct stun_builder b;
    struct stun_view v;
    test_begin("integers at both ends of their width");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned end = 0; end < 2; end++) {
            uint64_t want = end ? rows[i].max : 0, got = 77;
            stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
            stun_put_uint(&b, rows[i].id, want);
            CHECK_EQ(stun_parse(&v, buf, stun_build_end(&b)), STUN_OK);
            CHECK_EQ(stun_get_uint(&v, rows[i].id, &got), STUN_OK);
            CHECK(got == want);
        }
    test_begin("addresses of both families in every row that holds one");
    for (unsigned id = 0; id < STUN_ATTR_COUNT; id++) {
        if (stun_attr_table[id].kind != STUN_KIND_ADDR &&
            stun_attr_table[id].kind != STUN_KIND_XADDR)
            continue;
        struct addr both[] = {addr_from_v4(v4, 1), addr_from_v6(v6, 65535)};
        for (size_t i = 0; i < 2; i++) {
            stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
            stun_put_addr(&b, id, &both[i]);
            CHECK_EQ(stun_parse(&v, buf, stun_build_end(&b)), STUN_OK);
            check_addr(&v, id, &both[i]);
        }
    }
}

static void padding_out(void)
{
    test_begin("X55 padding written is zero");
    for (size_t n = 0; n <= 9; n++) {
        uint8_t buf[64];
        struct stun_builder b;
        memset(buf, 0xaa, sizeof(buf));
        stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
        stun_put_bytes(&b, A_software, "123456789", n);
        size_t len = stun_build_end(&b);
        CHECK_EQ(len, 24 + ((n + 3) & ~(size_t)3));
        for (size_t i = 24 + n; i < len; i++)
            CHECK_EQ(buf[i], 0);
        CHECK_EQ(buf[len], 0xaa);
    }
    test_begin("X55 reserved bytes written are zero");
    uint8_t buf[64];
    struct stun_builder b;
    memset(buf, 0xaa, sizeof(buf));
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
    stun_put_uint(&b, A_channel_number, 0x4000);
    stun_put_uint(&b, A_requested_transport, 17);
    stun_put_uint(&b, A_even_port, 1);
    stun_put_error(&b, 438, NULL);
    size_t len = stun_build_end(&b);
    CHECK_BYTES(buf + 20, len - 20,
                "\x00\x0c\x00\x04\x40\x00\x00\x00\x00\x19\x00\x04\x11\x00\x00\x00"
                "\x00\x18\x00\x01\x80\x00\x00\x00\x00\x09\x00\x04\x00\x00\x04\x26",
                32);
}

static void wrap_data(void)
{
    test_begin("a Data indication around a payload in place is the one the builder makes");
    for (unsigned family = 0; family < 2; family++) {
        struct addr peer = family ? addr_from_v6(v6, 5000) : addr_from_v4(v4, 5000);
        size_t room = family ? STUN_DATA_ROOM_V6 : STUN_DATA_ROOM_V4;
        for (size_t n = 0; n <= 9; n++) {
            uint8_t want[128];
            struct stun_builder b;
            stun_build_start(&b, want, sizeof(want), STUN_INDICATION, STUN_DATA, txid);
            stun_put_addr(&b, A_xor_peer_address, &peer);
            stun_put_bytes(&b, A_data, "123456789", n);
            size_t want_len = stun_build_end(&b), len = 0;

            uint8_t *buf = malloc(room + n + (-n & 3));
            if (!buf)
                abort();
            memset(buf, 0xaa, room + n + (-n & 3));
            memcpy(buf + room, "123456789", n);
            uint8_t *start = stun_wrap_data(buf + room, n, &peer, txid, &len);
            CHECK(start == buf);
            CHECK_BYTES(start, len, want, want_len);
            free(buf);
        }
    }
    test_begin("a payload no message can hold");
    size_t len = 7;
    struct addr peer = addr_from_v6(v6, 5000);
    struct stun_view v;
    memset(raw.bytes, 0, sizeof(raw.bytes));
    uint8_t *payload = raw.bytes + STUN_DATA_ROOM_V6;
    CHECK(stun_wrap_data(payload, STUN_DATA_MAX + 1, &peer, txid, &len) == NULL);
    CHECK_EQ(len, 7);
    CHECK(stun_wrap_data(payload, STUN_DATA_MAX, &peer, txid, &len) == raw.bytes);
    CHECK_EQ(len, STUN_LEN_MAX);
    CHECK_EQ(stun_parse(&v, raw.bytes, len), STUN_OK);
}

int main(void)
{
    builder_overflow();
    round_trip();
    widths();
    padding_out();
    wrap_data();
    return test_end("stun_build");
}
