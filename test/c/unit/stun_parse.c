/*
 * What the parser makes of a message as a whole, good and malicious (the X rows of the threat
 * table): its lengths, which attributes count, signatures and fingerprints.
 */
#include "stun_kit.h"

static void after_integrity(void)
{
    static const uint8_t other[4] = {198, 51, 100, 7};
    uint8_t p1[8], p2[8];
    xor_v4(p1, v4, 1000);
    xor_v4(p2, other, 2000);
    struct stun_iter it;
    struct addr a, want = addr_from_v4(v4, 1000);

    test_begin("X38 nothing after MESSAGE-INTEGRITY counts");
    raw_start(0x0008);
    raw_attr(0x0012, p1, 8);
    raw_sign(false);
    size_t signed_len = raw.len;
    raw_attr(0x0012, p2, 8);
    raw_attr(0x000d, "\0\0\0\0", 4);
    raw_attr(0x7fff, "", 0);
    raw_attr(0x0006, "eve", 3);
    struct stun_view *v = parsed();
    CHECK(!stun_has(v, A_lifetime));
    CHECK(!stun_has(v, A_username));
    CHECK_EQ(v->unknown_count, 0);
    CHECK_EQ(v->counted_end, signed_len);
    CHECK_EQ(stun_get_addr(v, A_xor_peer_address, &a), STUN_OK);
    CHECK(addr_equal(&a, &want));
    CHECK_EQ(count_attrs(v), 2);
    CHECK(signed_by(v, false, key, strlen(key)));

    test_begin("X38 but MESSAGE-INTEGRITY-SHA256 and FINGERPRINT do");
    raw_sign(true);
    raw_attr(0x0012, p2, 8);
    raw_attr(0x7ffe, "", 0);
    raw_fingerprint(0);
    v = parsed();
    CHECK(v->has_fingerprint);
    CHECK(signed_by(v, false, key, strlen(key)));
    CHECK(signed_by(v, true, key, strlen(key)));
    CHECK_EQ(v->unknown_count, 0);
    stun_iter_init(&it, v);
    CHECK(stun_iter_next(&it) && it.id == A_xor_peer_address);
    CHECK(stun_iter_next(&it) && it.id == A_message_integrity);
    CHECK(stun_iter_next(&it) && it.id == A_message_integrity_sha256);
    CHECK(stun_iter_next(&it) && it.id == A_fingerprint);
    CHECK(!stun_iter_next(&it));
    CHECK(!stun_iter_next(&it));

    test_begin("X38 after MESSAGE-INTEGRITY-SHA256 only FINGERPRINT does");
    raw_start(0x0008);
    raw_attr(0x0012, p1, 8);
    raw_sign(true);
    raw_sign(false);
    raw_sign(true);
    raw_attr(0x000d, "\0\0\0\0", 4);
    raw_fingerprint(0);
    v = parsed();
    CHECK(!stun_has(v, A_message_integrity));
    CHECK(!stun_has(v, A_lifetime));
    CHECK(v->has_fingerprint);
    CHECK(signed_by(v, true, key, strlen(key)));
    CHECK_EQ(count_attrs(v), 3);
}

static void integrities(void)
{
    struct stun_view *v;

    test_begin("X39 the first of two MESSAGE-INTEGRITYs counts");
    raw_start(0x0008);
    raw_attr(0x0008, "01234567890123456789", 20);
    raw_sign(false);
    v = parsed();
    CHECK(!signed_by(v, false, key, strlen(key)));
    CHECK_EQ(count_attrs(v), 1);

    test_begin("X39 MESSAGE-INTEGRITY as first attribute");
    raw_start(0x0008);
    raw_sign(false);
    v = parsed();
    CHECK_EQ(v->at[A_message_integrity], STUN_HEADER_LEN);
    CHECK(signed_by(v, false, key, strlen(key)));

    test_begin("X39 signatures of other lengths are malformed, and still end what counts");
    for (size_t len = 0; len <= 40; len++) {
        uint8_t mac[40] = {0};
        bool match = true;
        raw_start(0x0008);
        raw_attr(0x0008, mac, len);
        raw_attr(0x000d, "\0\0\0\0", 4);
        v = parsed();
        CHECK(!stun_has(v, A_lifetime));
        CHECK_EQ(stun_check_integrity(v, key, 5, &match),
                 len == SHA1_LEN ? STUN_OK : STUN_ERR_MALFORMED);
        CHECK_EQ(match, len != SHA1_LEN);
        match = true;
        raw_start(0x0008);
        raw_attr(0x001c, mac, len);
        v = parsed();
        CHECK_EQ(stun_check_integrity_sha256(v, key, 5, &match),
                 len == SHA256_LEN ? STUN_OK : STUN_ERR_MALFORMED);
        CHECK_EQ(match, len != SHA256_LEN);
    }
    bool match;
    raw_start(0x0008);
    v = parsed();
    CHECK_EQ(stun_check_integrity(v, key, 5, &match), STUN_ERR_ABSENT);
    CHECK_EQ(stun_check_integrity_sha256(v, key, 5, &match), STUN_ERR_ABSENT);
}

static void lengths(void)
{
    test_begin("X50 fewer than 20 bytes");
    raw_start(0x0001);
    for (size_t len = 0; len < STUN_HEADER_LEN; len++)
        CHECK_EQ(verdict_of(raw.bytes, len), STUN_ERR_TOO_SHORT);
    CHECK_EQ(verdict(), STUN_OK);

    test_begin("X50 the header's length is not the datagram's");
    raw_attr(0x000d, "\0\0\0\1", 4);
    raw_length(0xffff);
    CHECK_EQ(verdict(), STUN_ERR_BAD_LENGTH);
    for (int off = -12; off <= 12; off++) {
        raw_length((size_t)(8 + off));
        CHECK_EQ(verdict(), off == 0 ? STUN_OK : STUN_ERR_BAD_LENGTH);
    }
    test_begin("X50 bytes behind the message");
    raw_length(8);
    for (size_t more = 1; more <= 16; more++)
        CHECK_EQ(verdict_of(raw.bytes, raw.len + more), STUN_ERR_BAD_LENGTH);

    test_begin("X50 more than a view can hold");
    raw_start(0x0001);
    raw_attr(0x8fff, "", 0);
    store16(raw.bytes + STUN_HEADER_LEN + 2, STUN_LEN_MAX - 24);
    raw.len = STUN_LEN_MAX;
    raw_length(STUN_LEN_MAX - STUN_HEADER_LEN);
    CHECK_EQ(verdict(), STUN_OK);
    store16(raw.bytes + STUN_HEADER_LEN + 2, STUN_LEN_MAX - 20);
    raw.len += 4;
    raw_length(raw.len - STUN_HEADER_LEN);
    CHECK_EQ(verdict(), STUN_ERR_BAD_LENGTH);

    test_begin("X24 neither STUN nor with the cookie");
    for (unsigned first = 0; first < 256; first++) {
        raw_start((uint16_t)(first << 8 | 1));
        CHECK_EQ(verdict(), first < 0x40 ? STUN_OK : STUN_ERR_NOT_STUN);
    }
    for (size_t bit = 32; bit < 64; bit++) {
        raw_start(0x0001);
        raw.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQ(verdict(), STUN_ERR_BAD_COOKIE);
    }
}

static void bounds(void)
{
    test_begin("X51 an attribute's length passes the end");
    for (unsigned len = 0; len <= 0xffff; len += len < 32 ? 1 : 31) {
        raw_start(0x0001);
        raw_attr(0x8022, "12345678", 8);
        store16(raw.bytes + STUN_HEADER_LEN + 2, (uint16_t)len);
        /* 0 to 4 leave bytes that read as a header of their own: 0x3536, length 0x3738. */
        enum stun_err want = len >= 5 && len <= 8 ? STUN_OK : STUN_ERR_BAD_ATTRIBUTE;
        CHECK_EQ(verdict(), want);
    }
    test_begin("X51 DATA of length 35510 with a short body");
    raw_start(0x0016);
    raw_attr(0x0013, "abcd", 4);
    store16(raw.bytes + STUN_HEADER_LEN + 2, 35510);
    CHECK_EQ(verdict(), STUN_ERR_BAD_ATTRIBUTE);

    test_begin("X51 one to three stray bytes, a cut attribute header");
    raw_start(0x0001);
    raw_attr(0x8022, "1234", 4);
    for (size_t stray = 1; stray <= 3; stray++) {
        raw_length(8 + stray);
        CHECK_EQ(verdict_of(raw.bytes, raw.len + stray), STUN_ERR_BAD_LENGTH);
    }
    test_begin("X51 the fault lies behind a signature");
    raw_start(0x0001);
    raw_sign(false);
    raw_attr(0x8022, "1234", 4);
    store16(raw.bytes + raw.len - 6, 5);
    CHECK_EQ(verdict(), STUN_ERR_BAD_ATTRIBUTE);
}

static void unknown(void)
{
    struct stun_view *v;
    test_begin("X56 unknown types");
    raw_start(0x0001);
    raw_attr(0x7fff, "abc", 3);
    raw_attr(0x8fff, "abc", 3);
    raw_attr(0x0001, "known but not expected", 22);
    raw_attr(0xffff, "", 0);
    raw_attr(0x7ffe, "", 0);
    raw_attr(0x7fff, "", 0);
    raw_attr(0x0081, "", 0); /* beyond the table's slots */
    v = parsed();
    CHECK_EQ(v->unknown_count, 3);
    CHECK_EQ(v->unknown[0], 0x7fff);
    CHECK_EQ(v->unknown[1], 0x7ffe);
    CHECK_EQ(v->unknown[2], 0x0081);
    CHECK(stun_has(v, A_mapped_address));
    CHECK_EQ(count_attrs(v), 7);

    test_begin("X27 the list of unknown types is bounded");
    raw_start(0x0001);
    for (unsigned i = 0; i < 130; i++)
        raw_attr((uint16_t)(0x7000 + i), "", 0);
    v = parsed();
    CHECK_EQ(v->unknown_count, STUN_UNKNOWN_MAX);
    for (unsigned i = 0; i < STUN_UNKNOWN_MAX; i++)
        CHECK_EQ(v->unknown[i], 0x7000 + i);
    CHECK_EQ(count_attrs(v), 130);
}

static void many(void)
{
    test_begin("X58 16 000 empty attributes");
    for (unsigned kind = 0; kind < 3; kind++) {
        raw_start(0x0001);
        while (raw.len < STUN_LEN_MAX) /* one optional type, one known, many unknown */
            raw_attr(kind == 0 ? 0x8fff : kind == 1 ? 0x001a : (raw.len & 0x7fff) | 1, "", 0);
        CHECK_EQ(raw.len, STUN_LEN_MAX);
        struct stun_view *v = parsed();
        struct stun_iter it;
        size_t n = 0;
        for (stun_iter_init(&it, v); stun_iter_next(&it);)
            n++;
        CHECK_EQ(n, (STUN_LEN_MAX - STUN_HEADER_LEN) / 4);
        CHECK_EQ(v->unknown_count, kind == 2 ? STUN_UNKNOWN_MAX : 0);
    }
}

static void fingerprints(void)
{
    test_begin("X60 FINGERPRINT right");
    raw_start(0x0001);
    raw_fingerprint(0);
    CHECK(parsed()->has_fingerprint);
    raw_start(0x0001);
    raw_attr(0x8022, "abc", 3);
    raw_sign(false);
    raw_fingerprint(0);
    CHECK(signed_by(parsed(), false, key, strlen(key)));

    test_begin("X60 FINGERPRINT wrong in any bit, also behind a signature");
    for (unsigned bit = 0; bit < 32; bit++) {
        raw_start(0x0001);
        raw_fingerprint(1u << bit);
        CHECK_EQ(verdict(), STUN_ERR_BAD_FINGERPRINT);
        raw_start(0x0001);
        raw_sign(true);
        raw_fingerprint(1u << bit);
        CHECK_EQ(verdict(), STUN_ERR_BAD_FINGERPRINT);
    }
    test_begin("X60 FINGERPRINT not last");
    raw_start(0x0001);
    raw_fingerprint(0);
    raw_attr(0x8022, "abc", 3);
    CHECK_EQ(verdict(), STUN_ERR_BAD_FINGERPRINT);
    raw_start(0x0001);
    raw_fingerprint(0);
    raw_sign(false);
    CHECK_EQ(verdict(), STUN_ERR_BAD_FINGERPRINT);

    test_begin("X60 FINGERPRINT not last, and a fault behind it");
    raw_start(0x0001);
    raw_fingerprint(0);
    raw_attr(0x8022, "abc", 3);
    store16(raw.bytes + raw.len - 6, 5);
    CHECK_EQ(verdict(), STUN_ERR_BAD_ATTRIBUTE);

    test_begin("X60 FINGERPRINT twice");
    raw_start(0x0001);
    raw_fingerprint(0);
    raw_fingerprint(0);
    CHECK_EQ(verdict(), STUN_ERR_BAD_FINGERPRINT);

    test_begin("X60 FINGERPRINT of another length");
    for (size_t len = 0; len <= 12; len++) {
        uint8_t value[12] = {0};
        raw_start(0x0001);
        raw_length(4 + ((len + 3) & ~(size_t)3));
        store32(value, crypto_crc32(0, raw.bytes, raw.len) ^ 0x5354554e);
        raw_attr(0x8028, value, len);
        CHECK_EQ(verdict(), len == 4 ? STUN_OK : STUN_ERR_BAD_FINGERPRINT);
    }
    test_begin("X60 FINGERPRINT over the length without itself");
    raw_start(0x0001);
    uint8_t crc[4];
    store32(crc, crypto_crc32(0, raw.bytes, raw.len) ^ 0x5354554e);
    raw_attr(0x8028, crc, 4);
    CHECK_EQ(verdict(), STUN_ERR_BAD_FINGERPRINT);
}

static void odds(void)
{
    static const uint8_t zero[STUN_TXID_LEN];
    struct stun_view *v;
    test_begin("X61 a transaction id of zeroes");
    raw_start(0x0001);
    memset(raw.bytes + 8, 0, STUN_TXID_LEN);
    v = parsed();
    CHECK_MEM(v->txid, zero, STUN_TXID_LEN);

    test_begin("X62 reserved bits are ignored");
    raw_start(0x0009);
    raw_attr(0x000c, "\x40\x01\xff\xff", 4);
    raw_attr(0x0019, "\x11\xff\xff\xff", 4);
    raw_attr(0x0017, "\x02\xff\xff\xff", 4);
    raw_attr(0x8000, "\x02\xff\xff\xff", 4);
    raw_attr(0x0018, "\xff", 1);
    v = parsed();
    CHECK_EQ(get_uint(v, A_channel_number), 0x4001);
    CHECK_EQ(get_uint(v, A_requested_transport), 17);
    CHECK_EQ(get_uint(v, A_requested_address_family), 2);
    CHECK_EQ(get_uint(v, A_additional_address_family), 2);
    CHECK_EQ(get_uint(v, A_even_port), 1);
    raw_start(0x0009);
    raw_attr(0x0018, "\x7f", 1);
    CHECK_EQ(get_uint(parsed(), A_even_port), 0);

    test_begin("X63 class and method of what looks like another");
    static const struct {
        uint16_t type;
        enum stun_class cls;
        enum stun_method method;
    } rows[] = {
        {0x0013, STUN_INDICATION, STUN_ALLOCATE},
        {0x0006, STUN_REQUEST, STUN_SEND},
        {0x0017, STUN_INDICATION, STUN_DATA},
        {0x001c, STUN_INDICATION, STUN_CONNECTION_ATTEMPT},
        {0x0101, STUN_SUCCESS, STUN_BINDING},
        {0x0111, STUN_ERROR, STUN_BINDING},
        {0x0113, STUN_ERROR, STUN_ALLOCATE},
        {0x0118, STUN_ERROR, STUN_CREATE_PERMISSION},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        raw_start(rows[i].type);
        v = parsed();
        CHECK_EQ(v->cls, rows[i].cls);
        CHECK_EQ(v->method, rows[i].method);
    }
    test_begin("X63 every class and method, there and back");
    for (unsigned type = 0; type < 0x4000; type++) {
        uint8_t buf[STUN_HEADER_LEN];
        struct stun_builder b;
        raw_start((uint16_t)type);
        v = parsed();
        CHECK(v->cls < 4 && v->method < 0x1000);
        stun_build_start(&b, buf, sizeof(buf), (enum stun_class)v->cls, v->method, txid);
        CHECK_BYTES(buf, stun_build_end(&b), raw.bytes, raw.len);
    }
}

int main(void)
{
    after_integrity();
    integrities();
    lengths();
    bounds();
    unknown();
    many();
    fingerprints();
    odds();
    return test_end("stun_parse");
}
