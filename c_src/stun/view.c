/*
 * The parser: a datagram to a view of it, in one pass, and the walk over what counts.
 * Checks where attributes lie and which of them count; what their values mean is value.c's.
 */
#include "stun.h"

#include "crypto.h"

#define FINGERPRINT_XOR 0x5354554eu

static const char *const err_names[] = {
    [STUN_OK] = "ok",
    [STUN_ERR_TOO_SHORT] = "too_short",
    [STUN_ERR_NOT_STUN] = "not_stun",
    [STUN_ERR_BAD_COOKIE] = "bad_cookie",
    [STUN_ERR_BAD_LENGTH] = "bad_length",
    [STUN_ERR_BAD_ATTRIBUTE] = "bad_attribute",
    [STUN_ERR_BAD_FINGERPRINT] = "bad_fingerprint",
    [STUN_ERR_ABSENT] = "absent",
    [STUN_ERR_MALFORMED] = "malformed",
    [STUN_ERR_BAD_FAMILY] = "bad_family",
};

const char *stun_err_name(enum stun_err err)
{
    return (size_t)err < ARRAY_SIZE(err_names) ? err_names[err] : "unknown";
}

const struct stun_attr_info stun_attr_table[STUN_ATTR_COUNT] = {
#define ATTR(name, code, kind, min, max, where) {#name, code, STUN_KIND_##kind, min, max, where},
#include "attrs.def"
#undef ATTR
};

/*
 * Code to row without a search: all codes we know lie in 0x0000-0x007f and 0x8000-0x807f, so bit
 * 15 and the low seven bits are an index. Entries are row + 1; 0 is nobody.
 */
#define SLOT(code)    (((code) >> 8 & 0x80) | ((code)&0x7f))
#define IN_SLOT(code) (((code)&0x7f80) == 0)

static const uint8_t rows[256] = {
#define ATTR(name, code, kind, min, max, where) [SLOT(code)] = A_##name + 1,
#include "attrs.def"
#undef ATTR
};

#define ATTR(name, code, kind, min, max, where)                                                    \
    _Static_assert(IN_SLOT(code), #name " needs another way to find rows");
#include "attrs.def"
#undef ATTR
_Static_assert(STUN_ATTR_COUNT < 255, "a row and one fit a byte");

static inline int find(uint16_t code)
{
    return IN_SLOT(code) ? rows[SLOT(code)] - 1 : -1;
}

int stun_attr_find(uint16_t code)
{
    return find(code);
}

/* Where the attribute behind the one at `offset` begins. */
static inline size_t behind(size_t offset, size_t value_len)
{
    return offset + STUN_ATTR_HEADER_LEN + ((value_len + 3) & ~(size_t)3);
}

static enum stun_err parse_header(struct stun_view *v, const uint8_t *data, size_t len)
{
    if (len < STUN_HEADER_LEN)
        return STUN_ERR_TOO_SHORT;
    unsigned type = load16(data);
    if (type & 0xc000)
        return STUN_ERR_NOT_STUN;
    if (load32(data + 4) != STUN_MAGIC_COOKIE)
        return STUN_ERR_BAD_COOKIE;
    if (load16(data + 2) != len - STUN_HEADER_LEN || len % 4 != 0 || len > STUN_LEN_MAX)
        return STUN_ERR_BAD_LENGTH;
    /* RFC 8489 5: the class's two bits stand between the method's twelve. */
    v->cls = (uint8_t)((type >> 4 & 1) | (type >> 7 & 2));
    v->method = (uint16_t)((type & 0xf) | (type >> 1 & 0x70) | (type >> 2 & 0xf80));
    v->data = data;
    v->len = len;
    v->txid = data + 8;
    return STUN_OK;
}

static void note_unknown(struct stun_view *v, uint16_t code)
{
    for (size_t i = 0; i < v->unknown_count; i++)
        if (v->unknown[i] == code)
            return;
    if (v->unknown_count < STUN_UNKNOWN_MAX)
        v->unknown[v->unknown_count++] = code;
}

/* RFC 8489 14.7. The header already has its final length, for nothing may follow. */
static bool fingerprint_ok(const uint8_t *data, size_t len, size_t offset)
{
    if (load16(data + offset + 2) != 4 || behind(offset, 4) != len)
        return false;
    uint32_t claimed = load32(data + offset + STUN_ATTR_HEADER_LEN);
    return claimed == (crypto_crc32(0, data, offset) ^ FINGERPRINT_XOR);
}

/* What still counts, by the signature passed (RFC 8489 14.5, 14.6). */
enum gate { GATE_ALL, GATE_SHA256_OR_FINGERPRINT, GATE_FINGERPRINT };

enum stun_err stun_parse(struct stun_view *v, const uint8_t *data, size_t len)
{
    enum stun_err err = parse_header(v, data, len);
    if (err != STUN_OK)
        return err;
    v->unknown_count = 0;
    v->counted_end = STUN_HEADER_LEN;
    memset(v->at, 0, sizeof(v->at));

    enum gate gate = GATE_ALL;
    size_t next;
    for (size_t offset = STUN_HEADER_LEN; offset < len; offset = next) {
        /* len is a multiple of 4, so an attribute header that begins is complete. */
        uint16_t code = load16(data + offset);
        next = behind(offset, load16(data + offset + 2));
        if (next > len)
            return STUN_ERR_BAD_ATTRIBUTE;
        int id = find(code);
        if (gate != GATE_ALL && id != A_fingerprint &&
            !(gate == GATE_SHA256_OR_FINGERPRINT && id == A_message_integrity_sha256))
            continue;
        v->counted_end = (uint16_t)next;
        if (id < 0) {
            if (stun_is_comprehension_required(code))
                note_unknown(v, code);
            continue;
        }
        if (v->at[id] == 0)
            v->at[id] = (uint16_t)offset;
        if (id == A_message_integrity)
            gate = GATE_SHA256_OR_FINGERPRINT;
        else if (id == A_message_integrity_sha256)
            gate = GATE_FINGERPRINT;
    }
    v->has_fingerprint = v->at[A_fingerprint] != 0;
    if (v->has_fingerprint && !fingerprint_ok(data, len, v->at[A_fingerprint]))
        return STUN_ERR_BAD_FINGERPRINT;
    return STUN_OK;
}

void stun_iter_init(struct stun_iter *it, const struct stun_view *v)
{
    *it = (struct stun_iter){.view = v, .offset = STUN_HEADER_LEN, .id = -1};
}

/* The gate again, told from the offsets the parser noted. */
static bool counts(const struct stun_view *v, size_t offset)
{
    size_t sha1 = v->at[A_message_integrity];
    size_t sha256 = v->at[A_message_integrity_sha256];
    bool behind_sha1 = sha1 != 0 && offset > sha1;
    bool behind_sha256 = sha256 != 0 && offset > sha256;
    if (!behind_sha1 && !behind_sha256)
        return true;
    return offset == v->at[A_fingerprint] || (!behind_sha256 && offset == sha256);
}

bool stun_iter_next(struct stun_iter *it)
{
    const struct stun_view *v = it->view;
    while (it->offset < v->counted_end) {
        size_t offset = it->offset;
        const uint8_t *p = v->data + offset;
        it->code = load16(p);
        it->len = load16(p + 2);
        it->value = p + STUN_ATTR_HEADER_LEN;
        it->offset = behind(offset, it->len);
        if (counts(v, offset)) {
            it->id = find(it->code);
            return true;
        }
    }
    return false;
}
