/*
 * The codec against published messages, against malice (the X rows of the threat table), and
 * against itself in both directions. Malice is written byte by byte here, not with the builder,
 * and lies in buffers of exactly its size.
 */
#include "stun.h"

#include "crypto.h"
#include "test.h"

/* Run by make from c_src. */
#define VECTORS "../test/data/stun_vectors.txt"

static const uint8_t txid[STUN_TXID_LEN] = {'t', 'w', 'e', 'l', 'v', 'e',
                                            ' ', 'b', 'y', 't', 'e', 's'};
static const uint8_t v4[4] = {192, 0, 2, 1};
static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const char key[] = "a key of some length";

/* ----------------------------------------------------------------- messages made by hand */

struct raw {
    uint8_t bytes[70000];
    size_t len;
};

static struct raw raw; /* one at a time is enough */

static void raw_length(size_t len)
{
    store16(raw.bytes + 2, (uint16_t)len);
}

static void raw_start(uint16_t type)
{
    memset(raw.bytes, 0, STUN_HEADER_LEN);
    store16(raw.bytes, type);
    store32(raw.bytes + 4, STUN_MAGIC_COOKIE);
    memcpy(raw.bytes + 8, txid, STUN_TXID_LEN);
    raw.len = STUN_HEADER_LEN;
}

static void raw_attr(uint16_t code, const void *value, size_t len)
{
    uint8_t *p = raw.bytes + raw.len;
    store16(p, code);
    store16(p + 2, (uint16_t)len);
    if (len)
        memcpy(p + 4, value, len);
    memset(p + 4 + len, 0, -len & 3);
    raw.len += 4 + ((len + 3) & ~(size_t)3);
    raw_length(raw.len - STUN_HEADER_LEN);
}

/* Signs what is there, whatever that is. */
static void raw_sign(bool sha256)
{
    uint8_t mac[SHA256_LEN];
    size_t len = sha256 ? SHA256_LEN : SHA1_LEN;
    struct crypto_part part = {raw.bytes, raw.len};
    raw_length(raw.len - STUN_HEADER_LEN + 4 + len);
    if (sha256)
        crypto_hmac_sha256(key, strlen(key), &part, 1, mac);
    else
        crypto_hmac_sha1(key, strlen(key), &part, 1, mac);
    raw_attr(sha256 ? 0x001c : 0x0008, mac, len);
}

static void raw_fingerprint(uint32_t flip)
{
    uint8_t crc[4];
    raw_length(raw.len - STUN_HEADER_LEN + 8);
    store32(crc, crypto_crc32(0, raw.bytes, raw.len) ^ 0x5354554e ^ flip);
    raw_attr(0x8028, crc, 4);
}

/* The verdict on the first len bytes; the view is gone with its bytes. */
static enum stun_err verdict_of(const void *data, size_t len)
{
    struct stun_view v;
    uint8_t *copy = test_exact(data, len);
    enum stun_err err = stun_parse(&v, copy, len);
    free(copy);
    return err;
}

static enum stun_err verdict(void)
{
    return verdict_of(raw.bytes, raw.len);
}

/* Parses raw as an exact copy that lives until the next call. */
static struct stun_view *parsed(void)
{
    static struct stun_view v;
    static uint8_t *copy;
    free(copy);
    copy = test_exact(raw.bytes, raw.len);
    CHECK_EQ(stun_parse(&v, copy, raw.len), STUN_OK);
    return &v;
}

static uint64_t get_uint(const struct stun_view *v, enum stun_attr_id id)
{
    uint64_t out = UINT64_MAX;
    CHECK_EQ(stun_get_uint(v, id, &out), STUN_OK);
    return out;
}

static size_t count_attrs(const struct stun_view *v)
{
    struct stun_iter it;
    size_t n = 0;
    for (stun_iter_init(&it, v); stun_iter_next(&it); n++)
        CHECK_EQ(it.id, stun_attr_find(it.code));
    return n;
}

static bool signed_by(const struct stun_view *v, bool sha256, const void *k, size_t k_len)
{
    bool match = false;
    enum stun_err err = sha256 ? stun_check_integrity_sha256(v, k, k_len, &match)
                               : stun_check_integrity(v, k, k_len, &match);
    return err == STUN_OK && match;
}

static void xor_v4(uint8_t out[8], const uint8_t ip[4], uint16_t port)
{
    out[0] = 0;
    out[1] = 1;
    store16(out + 2, port ^ 0x2112);
    store32(out + 4, load32(ip) ^ STUN_MAGIC_COOKIE);
}

/* ------------------------------------------------------------------------ published vectors */

#define LONG_USER "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9"
#define REALM     "example.org"
#define PASSWORD  "TheMatrIX"

static uint8_t vector[1024];
static size_t vector_len;

static bool load_vector(const char *name)
{
    static char line[4096];
    size_t name_len = strlen(name);
    FILE *f = fopen(VECTORS, "r");
    vector_len = 0;
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, name_len) == 0 && line[name_len] == ' ')
            vector_len = test_hex(line + name_len + 1, vector, sizeof(vector));
    if (f)
        fclose(f);
    return CHECK(vector_len > 0);
}

/* Every prefix is refused; every flipped bit is seen, by the parser or by the signature. But for
 * those of FINGERPRINT's type: they leave a message without one, and an attribute that does not
 * count. */
static void torment_vector(bool sha256, const void *k, size_t k_len)
{
    struct stun_view v;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    bool had_fingerprint = v.has_fingerprint;
    for (size_t len = 0; len < vector_len; len++)
        CHECK(verdict_of(vector, len) != STUN_OK);
    for (size_t bit = 0; bit < 8 * vector_len; bit++) {
        uint8_t *copy = test_exact(vector, vector_len);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (stun_parse(&v, copy, vector_len) == STUN_OK) {
            bool type_of_fingerprint = had_fingerprint && bit / 8 / 2 == (vector_len - 8) / 2;
            CHECK_EQ(signed_by(&v, sha256, k, k_len), type_of_fingerprint);
            CHECK_EQ(v.has_fingerprint, false);
        }
        free(copy);
    }
}

static void short_term_vectors(void)
{
    static const char password[] = "VOkJxbRl1RmTxUk/WvJxBt";
    static const uint8_t rfc_v6[16] = {0x20, 0x01, 0x0d, 0xb8, 0x12, 0x34, 0x56, 0x78,
                                       0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};
    struct stun_view v;
    const uint8_t *value;
    size_t len;
    struct addr a, want;

    test_begin("RFC 5769 2.1");
    if (!load_vector("rfc5769-2.1"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(v.cls, STUN_REQUEST);
    CHECK_EQ(v.method, STUN_BINDING);
    CHECK(v.has_fingerprint);
    CHECK_EQ(v.unknown_count, 0);
    CHECK_EQ(count_attrs(&v), 6);
    CHECK_EQ(stun_get_bytes(&v, A_software, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "STUN test client", 16);
    CHECK_EQ(stun_get_bytes(&v, A_username, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "evtj:h6vY", 9);
    CHECK_EQ(get_uint(&v, A_priority), 0x6e0001ff);
    CHECK_EQ(get_uint(&v, A_ice_controlled), 0x932ff9b151263b36);
    CHECK(signed_by(&v, false, password, strlen(password)));
    CHECK(!signed_by(&v, false, password, strlen(password) - 1));
    torment_vector(false, password, strlen(password));

    test_begin("RFC 5769 2.2");
    if (!load_vector("rfc5769-2.2"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(v.cls, STUN_SUCCESS);
    CHECK_EQ(stun_get_addr(&v, A_xor_mapped_address, &a), STUN_OK);
    want = addr_from_v4(v4, 32853);
    CHECK(addr_equal(&a, &want));
    CHECK(v.has_fingerprint && signed_by(&v, false, password, strlen(password)));
    torment_vector(false, password, strlen(password));

    test_begin("RFC 5769 2.3");
    if (!load_vector("rfc5769-2.3"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(stun_get_addr(&v, A_xor_mapped_address, &a), STUN_OK);
    want = addr_from_v6(rfc_v6, 32853);
    CHECK(addr_equal(&a, &want));
    CHECK(v.has_fingerprint && signed_by(&v, false, password, strlen(password)));
    torment_vector(false, password, strlen(password));
}

static void long_term_vectors(void)
{
    uint8_t md5[STUN_KEY_MD5_LEN], sha256[STUN_KEY_SHA256_LEN], hash[32], want[32];
    struct stun_view v;
    const uint8_t *value;
    size_t len;

    test_begin("keys and user hash of RFC 5769 2.4 and RFC 8489 B.1");
    stun_key_md5(LONG_USER, 18, REALM, 11, PASSWORD, 9, md5);
    test_hex("e8ca7ad59d5eb0518e312911d2dab2a9", want, 16);
    CHECK_MEM(md5, want, 16);
    stun_key_sha256(LONG_USER, 18, REALM, 11, PASSWORD, 9, sha256);
    test_hex("dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1", want, 32);
    CHECK_MEM(sha256, want, 32);
    stun_userhash(LONG_USER, 18, REALM, 11, hash);

    test_begin("RFC 5769 2.4");
    if (!load_vector("rfc5769-2.4"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK(!v.has_fingerprint);
    CHECK_EQ(stun_get_bytes(&v, A_username, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, LONG_USER, 18);
    CHECK_EQ(stun_get_bytes(&v, A_nonce, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "f//499k954d6OL34oL9FSTvy64sA", 28);
    CHECK_EQ(stun_get_bytes(&v, A_realm, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, REALM, 11);
    CHECK(signed_by(&v, false, md5, sizeof(md5)));
    torment_vector(false, md5, sizeof(md5));

    test_begin("RFC 8489 B.1, erratum 6268");
    if (!load_vector("rfc8489-B.1"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(stun_get_bytes(&v, A_userhash, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, hash, 32);
    CHECK_EQ(stun_get_bytes(&v, A_password_algorithm, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "\0\2\0\0", 4);
    CHECK(signed_by(&v, true, sha256, sizeof(sha256)));
    CHECK(!signed_by(&v, true, md5, sizeof(md5)));
    torment_vector(true, sha256, sizeof(sha256));

    test_begin("RFC 8489 B.1 as printed is wrong twice");
    if (!load_vector("rfc8489-B.1-printed"))
        return;
    CHECK_EQ(vector_len, 156);
    CHECK_EQ(verdict_of(vector, vector_len), STUN_ERR_BAD_LENGTH);
    store16(vector + 2, (uint16_t)(vector_len - STUN_HEADER_LEN));
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK(!signed_by(&v, true, sha256, sizeof(sha256)));
    CHECK(!signed_by(&v, true, md5, sizeof(md5)));
}

/* The builder pads with zero, so only the vectors that do can come out byte for byte. */
static void rebuilt_vectors(void)
{
    uint8_t buf[512], k[STUN_KEY_SHA256_LEN];
    struct stun_builder b;

    test_begin("RFC 5769 2.4 built");
    if (!load_vector("rfc5769-2.4"))
        return;
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, vector + 8);
    stun_put_bytes(&b, A_username, LONG_USER, 18);
    stun_put_bytes(&b, A_nonce, "f//499k954d6OL34oL9FSTvy64sA", 28);
    stun_put_bytes(&b, A_realm, REALM, 11);
    stun_key_md5(LONG_USER, 18, REALM, 11, PASSWORD, 9, k);
    stun_put_integrity(&b, k, STUN_KEY_MD5_LEN);
    CHECK_BYTES(buf, stun_build_end(&b), vector, vector_len);

    test_begin("RFC 8489 B.1 built");
    if (!load_vector("rfc8489-B.1"))
        return;
    uint8_t hash[32];
    stun_userhash(LONG_USER, 18, REALM, 11, hash);
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, vector + 8);
    stun_put_bytes(&b, A_userhash, hash, 32);
    stun_put_bytes(&b, A_nonce, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA", 41);
    stun_put_bytes(&b, A_realm, REALM, 11);
    stun_put_bytes(&b, A_password_algorithm, "\0\2\0\0", 4);
    stun_key_sha256(LONG_USER, 18, REALM, 11, PASSWORD, 9, k);
    stun_put_integrity_sha256(&b, k, STUN_KEY_SHA256_LEN);
    CHECK_BYTES(buf, stun_build_end(&b), vector, vector_len);
}

/* -------------------------------------------------------------------------------- the table */

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

/* ----------------------------------------------------------------------------------- malice */

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

static void sizes(void)
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

/* ---------------------------------------------------------------------------------- builder */

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

/* ----------------------------------------------------------------------------------- nonces */

static void nonces(void)
{
    uint8_t secret[STUN_NONCE_KEY_LEN], foreign[STUN_NONCE_KEY_LEN];
    memset(secret, 1, sizeof(secret));
    memset(foreign, 2, sizeof(foreign));
    struct addr client = addr_from_v4(v4, 40000), other;
    const uint32_t both = STUN_FEATURE_PASSWORD_ALGORITHMS | STUN_FEATURE_USERNAME_ANONYMITY;
    char nonce[STUN_NONCE_LEN];
    const uint8_t *n = (const uint8_t *)nonce;

    test_begin("the nonce cookie and feature bits (RFC 8489 9.2, erratum 6290)");
    stun_nonce_make(nonce, secret, 1000, STUN_FEATURE_USERNAME_ANONYMITY, &client);
    CHECK_MEM(nonce, "obMatJos2AAAC", 13);
    stun_nonce_make(nonce, secret, 1000, 0, &client);
    CHECK_MEM(nonce, "obMatJos2AAAA", 13);
    stun_nonce_make(nonce, secret, 1000, both, &client);
    CHECK_MEM(nonce, "obMatJos2AAAD", 13);
    for (size_t i = 0; i < STUN_NONCE_LEN; i++)
        CHECK(nonce[i] > ' ' && nonce[i] < 127 && nonce[i] != '"');

    test_begin("X30 a nonce is good for its lifetime");
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &client));
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1600, 600, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1601, 600, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, UINT32_MAX, 600, both, &client));
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 0, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1001, 0, both, &client));
    test_begin("X30 nor is one from the future");
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 999, 600, both, &client));
    test_begin("X30 seconds of every size");
    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t then = 1u << bit;
        stun_nonce_make(nonce, secret, then, both, &client);
        CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, then + 5, 5, both, &client));
        CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, then + 6, 5, both, &client));
    }
    stun_nonce_make(nonce, secret, 1000, both, &client);

    test_begin("X31 a foreign key, other features");
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, foreign, 1000, 600, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, 0, &client));
    test_begin("X31 any flipped bit");
    for (size_t bit = 0; bit < 8 * STUN_NONCE_LEN; bit++) {
        uint8_t *copy = test_exact(nonce, STUN_NONCE_LEN);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!stun_nonce_check(copy, STUN_NONCE_LEN, secret, 1000, 600, both, &client));
        free(copy);
    }
    test_begin("X31 other lengths, empty, 764 bytes, not text");
    for (size_t len = 0; len < 764; len += len < 50 ? 1 : 50) {
        uint8_t *copy = calloc(1, len + 1);
        if (!copy)
            abort();
        memcpy(copy, nonce, MIN(len, (size_t)STUN_NONCE_LEN));
        CHECK_EQ(stun_nonce_check(copy, len, secret, 1000, 600, both, &client),
                 len == STUN_NONCE_LEN);
        memset(copy, 0xff, len);
        CHECK(!stun_nonce_check(copy, len, secret, 1000, UINT32_MAX, both, &client));
        memset(copy, 0, len);
        CHECK(!stun_nonce_check(copy, len, secret, 1000, UINT32_MAX, both, &client));
        free(copy);
    }
    test_begin("X32 another client's port or address");
    other = client;
    other.port++;
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
    other = client;
    other.ip[15] ^= 1;
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
    other = addr_from_v6(v6, 40000);
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
    stun_nonce_make(nonce, secret, 1000, both, &other);
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
}

/* ------------------------------------------------------------------------------ ChannelData */

static void channels(void)
{
    uint16_t number;
    const uint8_t *payload;
    size_t len;
    test_begin("ChannelData of every length against what it claims (RFC 8656 12.6)");
    for (size_t have = 0; have < 16; have++)
        for (size_t claim = 0; claim < 20; claim++) {
            uint8_t bytes[16] = {0x40, 0x01, 0, (uint8_t)claim};
            uint8_t *copy = test_exact(bytes, have);
            bool ok = channel_parse(copy, have, &number, &payload, &len);
            CHECK_EQ(ok, have >= 4 && claim <= have - 4);
            if (ok) {
                CHECK_EQ(number, 0x4001);
                CHECK(payload == copy + 4);
                CHECK_EQ(len, claim);
            }
            free(copy);
        }
    test_begin("ChannelData header written before a payload");
    uint8_t buf[8] = {'.', '.', '.', '.', 'a', 'b', 'c', 'd'};
    channel_put_header(buf + 4, 0x4fff, 4);
    CHECK_MEM(buf,
              "\x4f\xff\x00\x04"
              "abcd",
              8);

    test_begin("the first byte (RFC 7983, RFC 8656 12)");
    for (unsigned first = 0; first < 256; first++)
        CHECK_EQ(stun_demux((uint8_t)first), first < 4                     ? DEMUX_STUN
                                             : first >= 64 && first <= 127 ? DEMUX_CHANNEL
                                             : first >= 20 && first <= 63  ? DEMUX_DTLS
                                                                           : DEMUX_OTHER);
}

int main(void)
{
    short_term_vectors();
    long_term_vectors();
    rebuilt_vectors();
    table();
    after_integrity();
    lengths();
    bounds();
    sizes();
    algorithms();
    padding_in();
    unknown();
    duplicates();
    many();
    alignment();
    fingerprints();
    odds();
    usernames();
    builder_overflow();
    round_trip();
    widths();
    padding_out();
    wrap_data();
    nonces();
    channels();
    return test_end("stun");
}
