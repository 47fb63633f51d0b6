/*
 * What the bytes of a value say, by the kind its row of attrs.def has. Every size and shape is
 * doubted here and nowhere else; whether a value makes sense in its message is not asked.
 */
#include "stun.h"

#include <assert.h>

static bool size_ok(enum stun_attr_id id, size_t len)
{
    return len >= stun_attr_table[id].min && len <= stun_attr_table[id].max;
}

/* The first attribute of a row. */
static bool locate(const struct stun_view *v, enum stun_attr_id id, const uint8_t **value,
                   size_t *len)
{
    size_t offset = v->at[id];
    if (offset == 0)
        return false;
    *len = load16(v->data + offset + 2);
    *value = v->data + offset + STUN_ATTR_HEADER_LEN;
    return true;
}

/* ------------------------------------------------------------------------------- integers */

static bool is_uint(enum stun_kind kind)
{
    return kind >= STUN_KIND_FLAG && kind <= STUN_KIND_EVEN;
}

enum stun_err stun_value_uint(enum stun_attr_id id, const uint8_t *value, size_t len, uint64_t *out)
{
    enum stun_kind kind = stun_attr_table[id].kind;
    assert(is_uint(kind));
    if (!size_ok(id, len))
        return STUN_ERR_MALFORMED;
    switch (kind) {
    case STUN_KIND_FLAG:
        *out = 1;
        return STUN_OK;
    case STUN_KIND_EVEN:
        *out = value[0] >> 7;
        return STUN_OK;
    case STUN_KIND_U8:
    case STUN_KIND_U8RFFU3:
        *out = value[0];
        return STUN_OK;
    case STUN_KIND_U16:
    case STUN_KIND_U16RFFU:
        *out = load16(value);
        return STUN_OK;
    case STUN_KIND_U32:
        *out = load32(value);
        return STUN_OK;
    default:
        *out = load64(value);
        return STUN_OK;
    }
}

enum stun_err stun_get_uint(const struct stun_view *v, enum stun_attr_id id, uint64_t *out)
{
    const uint8_t *value;
    size_t len;
    if (!locate(v, id, &value, &len))
        return STUN_ERR_ABSENT;
    return stun_value_uint(id, value, len, out);
}

/* ------------------------------------------------------------------------------ addresses */

/* Byte 0 is reserved, 1 the family, then port and IP (RFC 8489 14.1); XADDR has the cookie, and
 * behind it the transaction id, laid over port and IP (14.2). */
enum stun_err stun_value_addr(enum stun_attr_id id, const uint8_t *value, size_t len,
                              const uint8_t txid[STUN_TXID_LEN], struct addr *out)
{
    enum stun_kind kind = stun_attr_table[id].kind;
    assert(kind == STUN_KIND_ADDR || kind == STUN_KIND_XADDR);
    if (!size_ok(id, len))
        return STUN_ERR_MALFORMED;
    uint8_t family = value[1];
    if (family != 1 && family != 2)
        return STUN_ERR_BAD_FAMILY;
    if (len != (family == 1 ? 8u : 20u))
        return STUN_ERR_MALFORMED;

    uint32_t cookie = kind == STUN_KIND_XADDR ? STUN_MAGIC_COOKIE : 0;
    uint16_t port = (uint16_t)(load16(value + 2) ^ cookie >> 16);
    uint8_t ip[16];
    store32(ip, load32(value + 4) ^ cookie);
    if (family == 1) {
        *out = addr_from_v4(ip, port);
        return STUN_OK;
    }
    for (size_t i = 0; i < STUN_TXID_LEN; i++)
        ip[4 + i] = value[8 + i] ^ (kind == STUN_KIND_XADDR ? txid[i] : 0);
    *out = addr_from_v6(ip, port);
    return STUN_OK;
}

enum stun_err stun_get_addr(const struct stun_view *v, enum stun_attr_id id, struct addr *out)
{
    const uint8_t *value;
    size_t len;
    if (!locate(v, id, &value, &len))
        return STUN_ERR_ABSENT;
    return stun_value_addr(id, value, len, v->txid, out);
}

enum stun_err stun_iter_addr(const struct stun_iter *it, struct addr *out)
{
    assert(it->id >= 0);
    return stun_value_addr((enum stun_attr_id)it->id, it->value, it->len, it->view->txid, out);
}

/* --------------------------------------------------------------------------------- errors */

/* RFC 8489 14.8: 21 reserved bits, the hundreds in three, the rest in eight. RFC 8656 18.12 has
 * a family in the first byte. */
enum stun_err stun_value_error(enum stun_attr_id id, const uint8_t *value, size_t len,
                               uint16_t *code, uint8_t *family, const uint8_t **reason,
                               size_t *reason_len)
{
    enum stun_kind kind = stun_attr_table[id].kind;
    assert(kind == STUN_KIND_ERROR || kind == STUN_KIND_ADDRERR);
    if (!size_ok(id, len))
        return STUN_ERR_MALFORMED;
    uint8_t hundreds = value[2] & 7;
    if (hundreds < 3 || hundreds > 6 || value[3] > 99)
        return STUN_ERR_MALFORMED;
    if (kind == STUN_KIND_ADDRERR && value[0] != 1 && value[0] != 2)
        return STUN_ERR_BAD_FAMILY;
    *code = (uint16_t)(hundreds * 100 + value[3]);
    *family = kind == STUN_KIND_ADDRERR ? value[0] : 0;
    *reason = value + 4;
    *reason_len = len - 4;
    return STUN_OK;
}

enum stun_err stun_get_error(const struct stun_view *v, enum stun_attr_id id, uint16_t *code,
                             uint8_t *family, const uint8_t **reason, size_t *reason_len)
{
    const uint8_t *value;
    size_t len;
    if (!locate(v, id, &value, &len))
        return STUN_ERR_ABSENT;
    return stun_value_error(id, value, len, code, family, reason, reason_len);
}

/* ---------------------------------------------------------------------------------- bytes */

bool stun_alg_next(struct bytes *list, uint16_t *algorithm, const uint8_t **params, size_t *len)
{
    struct bytes rest = *list;
    uint16_t alg, params_len;
    const uint8_t *p, *padding;
    if (!bytes_get16(&rest, &alg) || !bytes_get16(&rest, &params_len) ||
        !bytes_take(&rest, params_len, &p) || !bytes_take(&rest, -(size_t)params_len & 3, &padding))
        return false;
    *list = rest;
    *algorithm = alg;
    *params = p;
    *len = params_len;
    return true;
}

/* How many entries, or 0 when one is cut. */
static size_t count_algorithms(const uint8_t *value, size_t len)
{
    struct bytes list = bytes_of(value, len);
    uint16_t algorithm;
    const uint8_t *params;
    size_t params_len, n = 0;
    while (stun_alg_next(&list, &algorithm, &params, &params_len))
        n++;
    return bytes_left(&list) == 0 ? n : 0;
}

static enum stun_err check_bytes(enum stun_attr_id id, const uint8_t *value, size_t len)
{
    if (!size_ok(id, len))
        return STUN_ERR_MALFORMED;
    switch (stun_attr_table[id].kind) {
    case STUN_KIND_TYPES:
        return len % 2 == 0 ? STUN_OK : STUN_ERR_MALFORMED;
    case STUN_KIND_ALG:
        return count_algorithms(value, len) == 1 ? STUN_OK : STUN_ERR_MALFORMED;
    case STUN_KIND_ALGS:
        return count_algorithms(value, len) > 0 ? STUN_OK : STUN_ERR_MALFORMED;
    default:
        return STUN_OK;
    }
}

static bool is_bytes(enum stun_kind kind)
{
    return kind == STUN_KIND_BYTES || kind == STUN_KIND_ICMP || kind == STUN_KIND_TYPES ||
           kind == STUN_KIND_ALG || kind == STUN_KIND_ALGS;
}

enum stun_err stun_get_bytes(const struct stun_view *v, enum stun_attr_id id, const uint8_t **value,
                             size_t *len)
{
    const uint8_t *p;
    size_t n;
    assert(is_bytes(stun_attr_table[id].kind));
    if (!locate(v, id, &p, &n))
        return STUN_ERR_ABSENT;
    enum stun_err err = check_bytes(id, p, n);
    if (err == STUN_OK) {
        *value = p;
        *len = n;
    }
    return err;
}

enum stun_err stun_value_check(enum stun_attr_id id, const uint8_t *value, size_t len)
{
    static const uint8_t no_txid[STUN_TXID_LEN];
    enum stun_kind kind = stun_attr_table[id].kind;
    if (is_uint(kind)) {
        uint64_t v;
        return stun_value_uint(id, value, len, &v);
    }
    if (kind == STUN_KIND_ADDR || kind == STUN_KIND_XADDR) {
        struct addr a;
        return stun_value_addr(id, value, len, no_txid, &a);
    }
    if (kind == STUN_KIND_ERROR || kind == STUN_KIND_ADDRERR) {
        uint16_t code;
        uint8_t family;
        const uint8_t *reason;
        size_t reason_len;
        return stun_value_error(id, value, len, &code, &family, &reason, &reason_len);
    }
    return check_bytes(id, value, len);
}
