/*
 * A term as a datagram. Values of attributes are written by kind, one function per shape; what has
 * not the shape that is documented is refused, whatever it is.
 */
#include <string.h>

#include "terms.h"

static bool get_below(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t max, uint64_t *out)
{
    ErlNifUInt64 v;
    if (!enif_get_uint64(env, term, &v) || v > max)
        return false;
    *out = v;
    return true;
}

static bool get_tuple(ErlNifEnv *env, ERL_NIF_TERM term, int arity, const ERL_NIF_TERM **elements)
{
    int n;
    return enif_get_tuple(env, term, &n, elements) && n == arity;
}

static bool get_address(ErlNifEnv *env, ERL_NIF_TERM term, struct addr *out)
{
    const ERL_NIF_TERM *pair, *part;
    int n;
    uint64_t port, v;
    uint8_t ip[16];
    if (!get_tuple(env, term, 2, &pair) || !enif_get_tuple(env, pair[0], &n, &part) ||
        (n != 4 && n != 8) || !get_below(env, pair[1], UINT16_MAX, &port))
        return false;
    for (int i = 0; i < n; i++) {
        if (!get_below(env, part[i], n == 4 ? UINT8_MAX : UINT16_MAX, &v))
            return false;
        if (n == 4)
            ip[i] = (uint8_t)v;
        else
            store16(ip + 2 * i, (uint16_t)v);
    }
    *out = n == 4 ? addr_from_v4(ip, (uint16_t)port) : addr_from_v6(ip, (uint16_t)port);
    return true;
}

/* The writers return false for a term of the wrong shape; what does not fit the builder notes. */

static bool write_address(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                          ERL_NIF_TERM term)
{
    struct addr a;
    if (!get_address(env, term, &a))
        return false;
    stun_put_addr(b, id, &a);
    return true;
}

static bool write_uint(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                       ERL_NIF_TERM term)
{
    static const uint64_t max[] = {
        [STUN_KIND_U8] = UINT8_MAX,   [STUN_KIND_U8RFFU3] = UINT8_MAX,
        [STUN_KIND_U16] = UINT16_MAX, [STUN_KIND_U16RFFU] = UINT16_MAX,
        [STUN_KIND_U32] = UINT32_MAX, [STUN_KIND_U64] = UINT64_MAX,
    };
    enum stun_kind kind = stun_attr_table[id].kind;
    uint64_t v;
    if (kind == STUN_KIND_FLAG || kind == STUN_KIND_EVEN) {
        v = enif_is_identical(term, am.yes);
        if (!v && (kind == STUN_KIND_FLAG || !enif_is_identical(term, am.no)))
            return false;
    } else if (!get_below(env, term, max[kind], &v)) {
        return false;
    }
    stun_put_uint(b, id, v);
    return true;
}

/* Room for a value of this row, of a length it may have. */
static bool room(struct stun_builder *b, enum stun_attr_id id, size_t len, uint8_t **out)
{
    if (len < stun_attr_table[id].min || len > stun_attr_table[id].max)
        return false;
    *out = stun_put_room(b, stun_attr_table[id].code, len);
    return true;
}

static bool write_error(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                        ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *e;
    ErlNifBinary reason;
    uint64_t family = 0, code;
    uint8_t *p;
    bool of_family = stun_attr_table[id].kind == STUN_KIND_ADDRERR;
    if (!get_tuple(env, term, of_family ? 3 : 2, &e))
        return false;
    if (of_family && (!get_below(env, *e++, 2, &family) || family == 0))
        return false;
    if (!get_below(env, e[0], 699, &code) || code < 300 ||
        !enif_inspect_binary(env, e[1], &reason) || !room(b, id, 4 + reason.size, &p))
        return false;
    if (p) {
        p[0] = (uint8_t)family;
        p[1] = 0;
        p[2] = (uint8_t)(code / 100);
        p[3] = (uint8_t)(code % 100);
        memcpy(p + 4, reason.data, reason.size);
    }
    return true;
}

static bool write_icmp(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                       ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *e;
    uint64_t type, code, data;
    uint8_t *p;
    if (!get_tuple(env, term, 3, &e) || !get_below(env, e[0], UINT8_MAX, &type) ||
        !get_below(env, e[1], UINT8_MAX, &code) || !get_below(env, e[2], UINT32_MAX, &data) ||
        !room(b, id, 8, &p))
        return false;
    if (p) {
        store16(p, 0);
        p[2] = (uint8_t)type;
        p[3] = (uint8_t)code;
        store32(p + 4, (uint32_t)data);
    }
    return true;
}

static bool write_types(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                        ERL_NIF_TERM term)
{
    unsigned n;
    ERL_NIF_TERM head, tail = term;
    uint64_t v;
    uint8_t *p;
    if (!enif_get_list_length(env, term, &n) || !room(b, id, 2 * (size_t)n, &p))
        return false;
    for (size_t i = 0; enif_get_list_cell(env, tail, &head, &tail); i++) {
        if (!get_below(env, head, UINT16_MAX, &v))
            return false;
        if (p)
            store16(p + 2 * i, (uint16_t)v);
    }
    return true;
}

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

/* {Algorithm, Params}: written to *p, which moves on, when there is one; its size is added. */
static bool write_algorithm(ErlNifEnv *env, ERL_NIF_TERM term, uint8_t **p, size_t *size)
{
    const ERL_NIF_TERM *e;
    ErlNifBinary params;
    uint64_t algorithm;
    if (!get_tuple(env, term, 2, &e) || !get_below(env, e[0], UINT16_MAX, &algorithm) ||
        !enif_inspect_binary(env, e[1], &params) || params.size > STUN_LEN_MAX)
        return false;
    size_t len = 4 + padded(params.size);
    *size += len;
    if (*p) {
        store16(*p, (uint16_t)algorithm);
        store16(*p + 2, (uint16_t)params.size);
        memcpy(*p + 4, params.data, params.size);
        memset(*p + 4 + params.size, 0, len - 4 - params.size);
        *p += len;
    }
    return true;
}

static bool write_algorithms(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                             ERL_NIF_TERM term)
{
    ERL_NIF_TERM list =
        stun_attr_table[id].kind == STUN_KIND_ALG ? enif_make_list1(env, term) : term;
    ERL_NIF_TERM head, tail;
    uint8_t *p = NULL;
    size_t size = 0;
    for (tail = list; enif_get_list_cell(env, tail, &head, &tail);)
        if (!write_algorithm(env, head, &p, &size))
            return false;
    if (!enif_is_empty_list(env, tail) || !room(b, id, size, &p))
        return false;
    for (tail = list; p && enif_get_list_cell(env, tail, &head, &tail);)
        (void)write_algorithm(env, head, &p, &size);
    return true;
}

static bool write_bytes(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                        ERL_NIF_TERM term)
{
    ErlNifBinary bytes;
    uint8_t *p;
    if (!enif_inspect_binary(env, term, &bytes) || !room(b, id, bytes.size, &p))
        return false;
    if (p && bytes.size)
        memcpy(p, bytes.data, bytes.size);
    return true;
}

static bool write_value(ErlNifEnv *env, struct stun_builder *b, enum stun_attr_id id,
                        ERL_NIF_TERM term)
{
    switch (stun_attr_table[id].kind) {
    case STUN_KIND_ADDR:
    case STUN_KIND_XADDR:
        return write_address(env, b, id, term);
    case STUN_KIND_ERROR:
    case STUN_KIND_ADDRERR:
        return write_error(env, b, id, term);
    case STUN_KIND_ICMP:
        return write_icmp(env, b, id, term);
    case STUN_KIND_TYPES:
        return write_types(env, b, id, term);
    case STUN_KIND_ALG:
    case STUN_KIND_ALGS:
        return write_algorithms(env, b, id, term);
    case STUN_KIND_BYTES:
        return write_bytes(env, b, id, term);
    default:
        return write_uint(env, b, id, term);
    }
}

/* {Name, Value}, or {Code, Bytes} for any code at all. */
static bool write_attribute(ErlNifEnv *env, struct stun_builder *b, ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *pair;
    ErlNifBinary bytes;
    uint64_t code;
    if (!get_tuple(env, term, 2, &pair))
        return false;
    for (int id = 0; id < STUN_ATTR_COUNT; id++)
        if (enif_is_identical(pair[0], am.attr[id]))
            return !is_signature(id) && write_value(env, b, (enum stun_attr_id)id, pair[1]);
    if (!get_below(env, pair[0], UINT16_MAX, &code) || !enif_inspect_binary(env, pair[1], &bytes))
        return false;
    stun_put_raw(b, (uint16_t)code, bytes.data, bytes.size);
    return true;
}

/* `integrity` as decode/1 reports it is no order to sign. */
static bool write_integrity(ErlNifEnv *env, struct stun_builder *b, ERL_NIF_TERM message)
{
    ERL_NIF_TERM term;
    const ERL_NIF_TERM *pair;
    ErlNifBinary key;
    if (!enif_get_map_value(env, message, am.integrity, &term) || enif_is_atom(env, term))
        return true;
    if (!get_tuple(env, term, 2, &pair) || !enif_inspect_binary(env, pair[1], &key))
        return false;
    if (enif_is_identical(pair[0], am.sha1))
        stun_put_integrity(b, key.data, key.size);
    else if (enif_is_identical(pair[0], am.sha256))
        stun_put_integrity_sha256(b, key.data, key.size);
    else
        return false;
    return true;
}

static bool write_fingerprint(ErlNifEnv *env, struct stun_builder *b, ERL_NIF_TERM message)
{
    ERL_NIF_TERM term;
    if (!enif_get_map_value(env, message, am.fingerprint, &term) || enif_is_identical(term, am.no))
        return true;
    if (!enif_is_identical(term, am.yes))
        return false;
    stun_put_fingerprint(b);
    return true;
}

static bool get_class(ErlNifEnv *env, ERL_NIF_TERM message, enum stun_class *out)
{
    ERL_NIF_TERM term;
    if (!enif_get_map_value(env, message, am.class, &term))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(am.cls); i++)
        if (enif_is_identical(term, am.cls[i])) {
            *out = (enum stun_class)i;
            return true;
        }
    return false;
}
/* False for a message of the wrong shape; *len is 0 when it does not fit into cap bytes. */
static bool write_message(ErlNifEnv *env, ERL_NIF_TERM message, uint8_t *buf, size_t cap,
                          size_t *len)
{
    ERL_NIF_TERM term, head;
    ErlNifBinary txid;
    enum stun_class cls;
    uint16_t method;
    struct stun_builder b;
    if (!get_class(env, message, &cls) || !enif_get_map_value(env, message, am.method, &term) ||
        !get_method(env, term, &method) ||
        !enif_get_map_value(env, message, am.transaction_id, &term) ||
        !enif_inspect_binary(env, term, &txid) || txid.size != STUN_TXID_LEN)
        return false;
    stun_build_start(&b, buf, cap, cls, method, txid.data);
    if (!enif_get_map_value(env, message, am.attributes, &term))
        return false;
    /* Stops where the room does, so that no list is too long. */
    while (!b.w.overflow && enif_get_list_cell(env, term, &head, &term))
        if (!write_attribute(env, &b, head))
            return false;
    if (!b.w.overflow && (!enif_is_empty_list(env, term) || !write_integrity(env, &b, message) ||
                          !write_fingerprint(env, &b, message)))
        return false;
    *len = stun_build_end(&b);
    return true;
}

static ERL_NIF_TERM make_binary(ErlNifEnv *env, const uint8_t *data, size_t len)
{
    ERL_NIF_TERM term;
    uint8_t *p = enif_make_new_binary(env, len, &term);
    memcpy(p, data, len);
    return term;
}

/*
 * Here and in stun_nif.c wrong arguments are a result, the atom badarg, and Erlang raises the
 * error: an exception of ours would carry the arguments into crash reports, and keys are among
 * them.
 *
 * Nearly every message fits the stack; one that does not is written again, to its longest.
 */
ERL_NIF_TERM encode_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    uint8_t small[2048];
    size_t len;
    (void)argc;
    if (!write_message(env, argv[0], small, sizeof(small), &len))
        return am.badarg;
    if (len > 0)
        return make_binary(env, small, len);

    uint8_t *large = enif_alloc(STUN_LEN_MAX);
    ERL_NIF_TERM result = am.badarg;
    if (large && write_message(env, argv[0], large, STUN_LEN_MAX, &len) && len > 0)
        result = make_binary(env, large, len);
    enif_free(large);
    pay(env, STUN_LEN_MAX);
    return result;
}
