/*
 * Messages written byte by byte, not with the builder, for the tests of the STUN codec; what is
 * parsed lies in a buffer of exactly its size, so that a sanitizer sees the first byte too far.
 */
#ifndef MEERKAT_STUN_KIT_H
#define MEERKAT_STUN_KIT_H

#include "crypto.h"
#include "stun.h"
#include "test.h"

static const uint8_t txid[STUN_TXID_LEN] = {'t', 'w', 'e', 'l', 'v', 'e',
                                            ' ', 'b', 'y', 't', 'e', 's'};
static const uint8_t v4[4] = {192, 0, 2, 1};
static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const char key[] = "a key of some length";

struct raw {
    uint8_t bytes[70000];
    size_t len;
};

static struct raw raw; /* one at a time is enough */

static inline void raw_length(size_t len)
{
    store16(raw.bytes + 2, (uint16_t)len);
}

static inline void raw_start(uint16_t type)
{
    memset(raw.bytes, 0, STUN_HEADER_LEN);
    store16(raw.bytes, type);
    store32(raw.bytes + 4, STUN_MAGIC_COOKIE);
    memcpy(raw.bytes + 8, txid, STUN_TXID_LEN);
    raw.len = STUN_HEADER_LEN;
}

static inline void raw_attr(uint16_t code, const void *value, size_t len)
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
static inline void raw_sign(bool sha256)
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

static inline void raw_fingerprint(uint32_t flip)
{
    uint8_t crc[4];
    raw_length(raw.len - STUN_HEADER_LEN + 8);
    store32(crc, crypto_crc32(0, raw.bytes, raw.len) ^ 0x5354554e ^ flip);
    raw_attr(0x8028, crc, 4);
}

/* The verdict on the first len bytes; the view is gone with its bytes. */
static inline enum stun_err verdict_of(const void *data, size_t len)
{
    struct stun_view v;
    uint8_t *copy = test_exact(data, len);
    enum stun_err err = stun_parse(&v, copy, len);
    free(copy);
    return err;
}

static inline enum stun_err verdict(void)
{
    return verdict_of(raw.bytes, raw.len);
}

/* Parses raw as an exact copy that lives until the next call. */
static inline struct stun_view *parsed(void)
{
    static struct stun_view v;
    static uint8_t *copy;
    free(copy);
    copy = test_exact(raw.bytes, raw.len);
    CHECK_EQ(stun_parse(&v, copy, raw.len), STUN_OK);
    return &v;
}

static inline uint64_t get_uint(const struct stun_view *v, enum stun_attr_id id)
{
    uint64_t out = UINT64_MAX;
    CHECK_EQ(stun_get_uint(v, id, &out), STUN_OK);
    return out;
}

static inline size_t count_attrs(const struct stun_view *v)
{
    struct stun_iter it;
    size_t n = 0;
    for (stun_iter_init(&it, v); stun_iter_next(&it); n++)
        CHECK_EQ(it.id, stun_attr_find(it.code));
    return n;
}

static inline bool signed_by(const struct stun_view *v, bool sha256, const void *k, size_t k_len)
{
    bool match = false;
    enum stun_err err = sha256 ? stun_check_integrity_sha256(v, k, k_len, &match)
                               : stun_check_integrity(v, k, k_len, &match);
    return err == STUN_OK && match;
}

static inline void xor_v4(uint8_t out[8], const uint8_t ip[4], uint16_t port)
{
    out[0] = 0;
    out[1] = 1;
    store16(out + 2, port ^ 0x2112);
    store32(out + 4, load32(ip) ^ STUN_MAGIC_COOKIE);
}

#endif
