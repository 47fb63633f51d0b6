/*
 * The builder: a message into the caller's buffer, and a Data indication around a payload where
 * it lies. Writes what it is told; which attributes a message needs is for others to know.
 */
#include "stun.h"

#include <assert.h>

#include "crypto.h"

#define FINGERPRINT_XOR 0x5354554eu

/* RFC 8489 5: the class's two bits stand between the method's twelve. */
static uint16_t message_type(unsigned cls, unsigned method)
{
    return (uint16_t)((method & 0xf) | (method & 0x70) << 1 | (method & 0xf80) << 2 |
                      (cls & 1) << 4 | (cls & 2) << 7);
}

static void write_header(uint8_t *p, uint16_t type, size_t body_len,
                         const uint8_t txid[STUN_TXID_LEN])
{
    store16(p, type);
    store16(p + 2, (uint16_t)body_len);
    store32(p + 4, STUN_MAGIC_COOKIE);
    memcpy(p + 8, txid, STUN_TXID_LEN);
}

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

void stun_build_start(struct stun_builder *b, void *buf, size_t cap, enum stun_class cls,
                      uint16_t method, const uint8_t txid[STUN_TXID_LEN])
{
    b->w = wbytes_of(buf, cap);
    memcpy(b->txid, txid, STUN_TXID_LEN);
    uint8_t *p = wbytes_room(&b->w, STUN_HEADER_LEN);
    if (p)
        write_header(p, message_type(cls, method), 0, b->txid);
}

void stun_build_response(struct stun_builder *b, void *buf, size_t cap, enum stun_class cls,
                         const struct stun_view *v)
{
    stun_build_start(b, buf, cap, cls, v->method, v->txid);
}

/* What is written so far becomes the header's length: signatures cover it. */
static void write_length(struct stun_builder *b)
{
    store16(b->w.start + 2, (uint16_t)(wbytes_len(&b->w) - STUN_HEADER_LEN));
}

size_t stun_build_end(struct stun_builder *b)
{
    if (b->w.overflow)
        return 0;
    write_length(b);
    return wbytes_len(&b->w);
}

/* ------------------------------------------------------------------------------ attributes */

uint8_t *stun_put_room(struct stun_builder *b, uint16_t code, size_t len)
{
    if (len > STUN_LEN_MAX ||
        wbytes_len(&b->w) + STUN_ATTR_HEADER_LEN + padded(len) > STUN_LEN_MAX) {
        b->w.overflow = true;
        return NULL;
    }
    uint8_t *p = wbytes_room(&b->w, STUN_ATTR_HEADER_LEN + padded(len));
    if (!p)
        return NULL;
    store16(p, code);
    store16(p + 2, (uint16_t)len);
    uint8_t *value = p + STUN_ATTR_HEADER_LEN;
    memset(value + len, 0, padded(len) - len);
    return value;
}

void stun_put_raw(struct stun_builder *b, uint16_t code, const void *value, size_t len)
{
    uint8_t *p = stun_put_room(b, code, len);
    if (p && len)
        memcpy(p, value, len);
}

void stun_put_bytes(struct stun_builder *b, enum stun_attr_id id, const void *value, size_t len)
{
    stun_put_raw(b, stun_attr_table[id].code, value, len);
}

/* Room for a row of fixed size, zero. */
static uint8_t *put_fixed(struct stun_builder *b, enum stun_attr_id id)
{
    size_t len = stun_attr_table[id].min;
    uint8_t *p = stun_put_room(b, stun_attr_table[id].code, len);
    if (p)
        memset(p, 0, len);
    return p;
}

void stun_put_uint(struct stun_builder *b, enum stun_attr_id id, uint64_t value)
{
    uint8_t *p = put_fixed(b, id);
    if (!p)
        return;
    switch (stun_attr_table[id].kind) {
    case STUN_KIND_FLAG:
        break;
    case STUN_KIND_EVEN:
        assert(value <= 1);
        p[0] = (uint8_t)(value << 7);
        break;
    case STUN_KIND_U8:
    case STUN_KIND_U8RFFU3:
        assert(value <= UINT8_MAX);
        p[0] = (uint8_t)value;
        break;
    case STUN_KIND_U16:
    case STUN_KIND_U16RFFU:
        assert(value <= UINT16_MAX);
        store16(p, (uint16_t)value);
        break;
    case STUN_KIND_U32:
        assert(value <= UINT32_MAX);
        store32(p, (uint32_t)value);
        break;
    case STUN_KIND_U64:
        store64(p, value);
        break;
    default:
        assert(!"an attribute of another kind");
    }
}

static size_t addr_value_len(const struct addr *a)
{
    return a->family == ADDR_V4 ? 8 : 20;
}

/* The value of an ADDR; XADDR when txid is there to be laid over it (RFC 8489 14.1, 14.2). */
static void write_addr(uint8_t *p, const struct addr *a, const uint8_t *txid)
{
    const uint8_t *ip = a->family == ADDR_V4 ? addr_v4(a) : a->ip;
    size_t ip_len = addr_value_len(a) - 4;
    p[0] = 0;
    p[1] = a->family == ADDR_V4 ? 1 : 2;
    store16(p + 2, a->port);
    memcpy(p + 4, ip, ip_len);
    if (!txid)
        return;
    store16(p + 2, a->port ^ (uint16_t)(STUN_MAGIC_COOKIE >> 16));
    store32(p + 4, load32(ip) ^ STUN_MAGIC_COOKIE);
    for (size_t i = 4; i < ip_len; i++)
        p[4 + i] = ip[i] ^ txid[i - 4];
}

void stun_put_addr(struct stun_builder *b, enum stun_attr_id id, const struct addr *a)
{
    enum stun_kind kind = stun_attr_table[id].kind;
    assert(kind == STUN_KIND_ADDR || kind == STUN_KIND_XADDR);
    if (a->family == ADDR_NONE) {
        b->w.overflow = true;
        return;
    }
    uint8_t *p = stun_put_room(b, stun_attr_table[id].code, addr_value_len(a));
    if (p)
        write_addr(p, a, kind == STUN_KIND_XADDR ? b->txid : NULL);
}

static void put_error(struct stun_builder *b, enum stun_attr_id id, uint8_t family, uint16_t code,
                      const char *reason, size_t reason_len)
{
    assert(code >= 300 && code <= 699);
    uint8_t *p = stun_put_room(b, stun_attr_table[id].code, 4 + reason_len);
    if (!p)
        return;
    p[0] = family;
    p[1] = 0;
    p[2] = (uint8_t)(code / 100);
    p[3] = (uint8_t)(code % 100);
    if (reason_len)
        memcpy(p + 4, reason, reason_len);
}

void stun_put_error(struct stun_builder *b, uint16_t code, const char *reason)
{
    put_error(b, A_error_code, 0, code, reason, reason ? strlen(reason) : 0);
}

void stun_put_address_error(struct stun_builder *b, uint8_t family, uint16_t code)
{
    assert(family == 1 || family == 2);
    put_error(b, A_address_error_code, family, code, NULL, 0);
}

void stun_put_unknown(struct stun_builder *b, const uint16_t *codes, size_t n)
{
    uint8_t *p = stun_put_room(b, stun_attr_table[A_unknown_attributes].code, 2 * n);
    for (size_t i = 0; p && i < n; i++)
        store16(p + 2 * i, codes[i]);
}

/* ------------------------------------------------------------------------------ signatures */

/* Each covers what stands before it, under a header whose length ends with it. */

void stun_put_integrity(struct stun_builder *b, const void *key, size_t key_len)
{
    uint8_t *mac = put_fixed(b, A_message_integrity);
    if (!mac)
        return;
    write_length(b);
    struct crypto_part before = {b->w.start, (size_t)(mac - b->w.start) - STUN_ATTR_HEADER_LEN};
    crypto_hmac_sha1(key, key_len, &before, 1, mac);
}

void stun_put_integrity_sha256(struct stun_builder *b, const void *key, size_t key_len)
{
    uint8_t *mac = stun_put_room(b, stun_attr_table[A_message_integrity_sha256].code, SHA256_LEN);
    if (!mac)
        return;
    write_length(b);
    struct crypto_part before = {b->w.start, (size_t)(mac - b->w.start) - STUN_ATTR_HEADER_LEN};
    crypto_hmac_sha256(key, key_len, &before, 1, mac);
}

void stun_put_fingerprint(struct stun_builder *b)
{
    uint8_t *p = put_fixed(b, A_fingerprint);
    if (!p)
        return;
    write_length(b);
    size_t before = (size_t)(p - b->w.start) - STUN_ATTR_HEADER_LEN;
    store32(p, crypto_crc32(0, b->w.start, before) ^ FINGERPRINT_XOR);
}

/* -------------------------------------------------------------------------- Data indication */

uint8_t *stun_wrap_data(uint8_t *payload, size_t payload_len, const struct addr *peer,
                        const uint8_t txid[STUN_TXID_LEN], size_t *len)
{
    if (payload_len > STUN_DATA_MAX)
        return NULL;
    size_t addr_len = addr_value_len(peer);
    size_t body_len = 2 * STUN_ATTR_HEADER_LEN + addr_len + padded(payload_len);
    uint8_t *start = payload - STUN_HEADER_LEN - 2 * STUN_ATTR_HEADER_LEN - addr_len;

    write_header(start, message_type(STUN_INDICATION, STUN_DATA), body_len, txid);
    uint8_t *p = start + STUN_HEADER_LEN;
    store16(p, stun_attr_table[A_xor_peer_address].code);
    store16(p + 2, (uint16_t)addr_len);
    write_addr(p + STUN_ATTR_HEADER_LEN, peer, txid);
    store16(payload - 4, stun_attr_table[A_data].code);
    store16(payload - 2, (uint16_t)payload_len);
    memset(payload + payload_len, 0, padded(payload_len) - payload_len);
    *len = STUN_HEADER_LEN + body_len;
    return start;
}
