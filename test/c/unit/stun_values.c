/*
 * Values of attributes, good and malicious (the X rows of the threat table): every length of every
 * row, padding, duplicates, alignment.
 */
#include "stun_kit.h"

static void table(void)
{
    test_begin("every code finds its row, no other code finds any");
    unsigned found = 0;
    for (unsigned code = 0; code <= 0xffff; code++) {
        int id = stun_attr_find((uint16_t)code);
        if (id >= 0) {
            found++;
            CHECK_EQ(stun_attr_table[id].code, code);
            CHECK(stun_attr_table[id].min <= stun_attr_table[id].max);
        }
    }
    CHECK_EQ(found, STUN_ATTR_COUNT);
    CHECK_STR(stun_attr_table[A_xor_peer_address].name, "xor_peer_address");

    test_begin("errors have names");
    CHECK_STR(stun_err_name(STUN_OK), "ok");
    CHECK_STR(stun_err_name(STUN_ERR_TOO_SHORT), "too_short");
    CHECK_STR(stun_err_name(STUN_ERR_BAD_FAMILY), "bad_family");
    CHECK_STR(stun_err_name((enum stun_err)99), "unknown");
}

/* Lengths of values a row takes, and only those. */
static bool size_allowed(const struct stun_attr_info *row, size_t len, uint8_t family)
{
    if (row->kind == STUN_KIND_ADDR || row->kind == STUN_KIND_XADDR)
        return len == (family == 1 ? 8u : 20u);
    if (row->kind == STUN_KIND_TYPES)
        return len % 2 == 0;
    if (row->kind == STUN_KIND_ALG || row->kind == STUN_KIND_ALGS)
        return len >= row->min && len % 4 == 0;
    return len >= row->min && len <= row->max;
}

static enum stun_err read_any(const struct stun_view *v, enum stun_attr_id id)
{
    const uint8_t *bytes = NULL;
    size_t len = 12345;
    uint64_t value = 12345;
    uint16_t code = 12345;
    uint8_t family;
    struct addr a = {.port = 12345};
    enum stun_err err;
    switch (stun_attr_table[id].kind) {
    case STUN_KIND_BYTES:
    case STUN_KIND_ICMP:
    case STUN_KIND_TYPES:
    case STUN_KIND_ALG:
    case STUN_KIND_ALGS:
        err = stun_get_bytes(v, id, &bytes, &len);
        CHECK_EQ(err != STUN_OK, bytes == NULL && len == 12345);
        return err;
    case STUN_KIND_ADDR:
    case STUN_KIND_XADDR:
        err = stun_get_addr(v, id, &a);
        CHECK_EQ(err != STUN_OK, a.family == ADDR_NONE && a.port == 12345);
        return err;
    case STUN_KIND_ERROR:
    case STUN_KIND_ADDRERR:
        err = stun_get_error(v, id, &code, &family, &bytes, &len);
        CHECK_EQ(err != STUN_OK, bytes == NULL && len == 12345 && code == 12345);
        return err;
    default:
        err = stun_get_uint(v, id, &value);
        CHECK_EQ(err != STUN_OK, value == 12345);
        return err;
    }
}

static void zero_lengths(void)
{
    static const enum stun_attr_id empty[] = {A_username,
                                              A_realm,
                                              A_nonce,
                                              A_xor_peer_address,
                                              A_lifetime,
                                              A_channel_number,
                                              A_requested_transport,
                                              A_even_port};
    struct stun_view *v;

    test_begin("X52 zero-length values");
    for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
        raw_start(0x0003);
        raw_attr(stun_attr_table[empty[i]].code, "", 0);
        v = parsed();
        CHECK(stun_has(v, empty[i]));
        CHECK_EQ(read_any(v, empty[i]), STUN_ERR_MALFORMED);
    }
}

static void sizes(void)
{
    struct stun_view *v;
    test_begin("X53 every length of every row, getters' results untouched unless right");
    for (unsigned id = 0; id < STUN_ATTR_COUNT; id++) {
        const struct stun_attr_info *row = &stun_attr_table[id];
        if (id == A_fingerprint)
            continue; /* the parser's: X60 */
        for (size_t len = 0; len < 1100; len += len < 40 || len > 750 ? 1 : 13) {
            uint8_t value[1100] = {0, 1, 4, 1}; /* an address of family 1, error 401, algorithm 1 */
            if (row->kind == STUN_KIND_ADDRERR)
                value[0] = 1;
            if (row->kind == STUN_KIND_ALG || row->kind == STUN_KIND_ALGS)
                store16(value + 2, (uint16_t)(len - 4));
            raw_start(0x0003);
            raw_attr(row->code, value, len);
            v = parsed();
            enum stun_err want = size_allowed(row, len, 1) ? STUN_OK : STUN_ERR_MALFORMED;
            CHECK_EQ(read_any(v, id), want);
            CHECK_EQ(stun_value_check(id, v->data + 24, len), want);
        }
        raw_start(0x0003);
        CHECK_EQ(read_any(parsed(), id), STUN_ERR_ABSENT);
    }
}

static void families(void)
{
    struct stun_view *v;
    test_begin("X53 address families");
    for (unsigned family = 0; family < 256; family++)
        for (size_t len = 8; len <= 20; len += 12) {
            uint8_t value[20] = {0xff, (uint8_t)family};
            raw_start(0x0009);
            raw_attr(0x0012, value, len);
            v = parsed();
            enum stun_err want = family != 1 && family != 2        ? STUN_ERR_BAD_FAMILY
                                 : len == (family == 1 ? 8u : 20u) ? STUN_OK
                                                                   : STUN_ERR_MALFORMED;
            CHECK_EQ(read_any(v, A_xor_peer_address), want);
            struct stun_iter it;
            struct addr a;
            stun_iter_init(&it, v);
            CHECK(stun_iter_next(&it));
            CHECK_EQ(stun_iter_addr(&it, &a), want);
        }
}

static void error_codes(void)
{
    struct stun_view *v;
    test_begin("error codes outside 300 to 699 are malformed");
    for (unsigned hundreds = 0; hundreds < 8; hundreds++)
        for (unsigned rest = 0; rest < 256; rest++) {
            uint8_t value[6] = {1, 0xff, (uint8_t)(0xf8 | hundreds), (uint8_t)rest, 'h', 'i'};
            bool good = hundreds >= 3 && hundreds <= 6 && rest < 100;
            uint16_t code;
            uint8_t family;
            const uint8_t *reason;
            size_t len;
            raw_start(0x0113);
            raw_attr(0x8001, value, 6);
            raw_attr(0x0009, value, 6);
            v = parsed();
            CHECK_EQ(stun_get_error(v, A_error_code, &code, &family, &reason, &len),
                     good ? STUN_OK : STUN_ERR_MALFORMED);
            if (!good)
                continue;
            CHECK_EQ(code, hundreds * 100 + rest);
            CHECK_EQ(family, 0);
            CHECK_BYTES(reason, len, "hi", 2);
            CHECK_EQ(stun_get_error(v, A_address_error_code, &code, &family, &reason, &len),
                     STUN_OK);
            CHECK_EQ(family, 1);
        }
    uint8_t other_family[4] = {3, 0, 4, 40};
    raw_start(0x0103);
    raw_attr(0x8001, other_family, 4);
    CHECK_EQ(read_any(parsed(), A_address_error_code), STUN_ERR_BAD_FAMILY);
}

static void algorithms(void)
{
    static const struct {
        const char *hex;
        unsigned count; /* entries, or 0 for malformed */
    } rows[] = {
        {"00020000", 1},
        {"0002000000010000", 2},
        {"00020003616263000001000461626364", 2},
        {"0002000361626300", 1},
        {"00020003616263", 0}, /* padding is part of the list */
        {"00020001610000000001", 0},
        {"000200", 0},
        {"00020001", 0},
        {"000200000001", 0},
        {"0002ffff61626364", 0},
    };
    test_begin("algorithm lists and their padding (RFC 8489 14.11)");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint8_t value[64];
        size_t len = test_hex(rows[i].hex, value, sizeof(value));
        uint8_t *copy = test_exact(value, len);
        enum stun_err list = rows[i].count ? STUN_OK : STUN_ERR_MALFORMED;
        enum stun_err one = rows[i].count == 1 ? STUN_OK : STUN_ERR_MALFORMED;
        CHECK_EQ(stun_value_check(A_password_algorithms, copy, len), list);
        CHECK_EQ(stun_value_check(A_password_algorithm, copy, len), one);
        free(copy);
    }
    uint8_t value[16];
    uint16_t algorithm;
    const uint8_t *params;
    size_t params_len;
    struct bytes list = bytes_of(value, test_hex(rows[2].hex, value, sizeof(value)));
    CHECK(stun_alg_next(&list, &algorithm, &params, &params_len));
    CHECK_EQ(algorithm, 2);
    CHECK_BYTES(params, params_len, "abc", 3);
    CHECK(stun_alg_next(&list, &algorithm, &params, &params_len));
    CHECK_EQ(algorithm, 1);
    CHECK_BYTES(params, params_len, "abcd", 4);
    CHECK(!stun_alg_next(&list, &algorithm, &params, &params_len));
}

static void padding_in(void)
{
    const uint8_t *value;
    size_t len;
    test_begin("X54 padding of any value is accepted");
    for (size_t n = 1; n <= 8; n++) {
        raw_start(0x0001);
        raw_attr(0x8022, "abcdefgh", n);
        memset(raw.bytes + 24 + n, 0xff, -n & 3);
        raw_attr(0x000d, "\0\0\0\7", 4);
        struct stun_view *v = parsed();
        CHECK_EQ(stun_get_bytes(v, A_software, &value, &len), STUN_OK);
        CHECK_BYTES(value, len, "abcdefgh", n);
        CHECK_EQ(get_uint(v, A_lifetime), 7);
    }
}

static void duplicates(void)
{
    uint8_t p1[8], p2[8];
    const uint8_t *value;
    size_t len;
    struct addr a, want = addr_from_v4(v4, 1);
    xor_v4(p1, v4, 1);
    xor_v4(p2, v4, 2);
    test_begin("X57 the first duplicate counts, the walk shows all");
    raw_start(0x0009);
    raw_attr(0x0012, p1, 8);
    raw_attr(0x000d, "\0\0\0\1", 4);
    raw_attr(0x0006, "alice", 5);
    raw_attr(0x0013, "one", 3);
    raw_attr(0x0012, p2, 8);
    raw_attr(0x000d, "\0\0\0\2", 4);
    raw_attr(0x0006, "bob", 3);
    raw_attr(0x0013, "two", 3);
    struct stun_view *v = parsed();
    CHECK_EQ(stun_get_addr(v, A_xor_peer_address, &a), STUN_OK);
    CHECK(addr_equal(&a, &want));
    CHECK_EQ(get_uint(v, A_lifetime), 1);
    CHECK_EQ(stun_get_bytes(v, A_username, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "alice", 5);
    CHECK_EQ(stun_get_bytes(v, A_data, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "one", 3);
    struct stun_iter it;
    unsigned peers = 0;
    for (stun_iter_init(&it, v); stun_iter_next(&it);)
        if (it.id == A_xor_peer_address) {
            CHECK_EQ(stun_iter_addr(&it, &a), STUN_OK);
            CHECK_EQ(a.port, ++peers);
        }
    CHECK_EQ(peers, 2);
    test_begin("X57 a malformed first is not replaced by a good second");
    raw_start(0x0004);
    raw_attr(0x000d, "\0\0\1", 3);
    raw_attr(0x000d, "\0\0\0\2", 4);
    CHECK_EQ(read_any(parsed(), A_lifetime), STUN_ERR_MALFORMED);
}

static void alignment(void)
{
    test_begin("X59 no load depends on alignment");
    raw_start(0x0003);
    raw_attr(0x0006, "odd", 3);
    raw_attr(0x000d, "\0\0\0\1", 4);
    raw_attr(0x8029, "12345678", 8);
    uint8_t p[8];
    xor_v4(p, v4, 9);
    raw_attr(0x0012, p, 8);
    raw_sign(false);
    raw_sign(true);
    raw_fingerprint(0);
    for (size_t shift = 0; shift < 8; shift++) {
        uint8_t *block = malloc(raw.len + shift);
        if (!block)
            abort();
        memcpy(block + shift, raw.bytes, raw.len);
        struct stun_view v;
        struct addr a;
        CHECK_EQ(stun_parse(&v, block + shift, raw.len), STUN_OK);
        CHECK_EQ(get_uint(&v, A_lifetime), 1);
        CHECK_EQ(get_uint(&v, A_ice_controlled), 0x3132333435363738);
        CHECK_EQ(stun_get_addr(&v, A_xor_peer_address, &a), STUN_OK);
        CHECK_EQ(a.port, 9);
        CHECK(signed_by(&v, false, key, strlen(key)));
        CHECK(signed_by(&v, true, key, strlen(key)));
        free(block);
    }
}

static void usernames(void)
{
    static const size_t lens[] = {1, 508, 509, 763, 764, 1000};
    const uint8_t *value;
    size_t len;
    uint8_t name[1000];
    test_begin("X64 USERNAME up to 763 bytes, UTF-8 or not");
    memset(name, 0xc3, sizeof(name));
    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        raw_start(0x0003);
        raw_attr(0x0006, name, lens[i]);
        struct stun_view *v = parsed();
        enum stun_err want = lens[i] <= 763 ? STUN_OK : STUN_ERR_MALFORMED;
        if (CHECK_EQ(stun_get_bytes(v, A_username, &value, &len), want) && want == STUN_OK)
            CHECK_BYTES(value, len, name, lens[i]);
    }
}

int main(void)
{
    table();
    zero_lengths();
    sizes();
    families();
    error_codes();
    algorithms();
    padding_in();
    duplicates();
    alignment();
    usernames();
    return test_end("stun_values");
}
