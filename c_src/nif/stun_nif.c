/*
 * meerkat_stun's native half: messages as terms. Looks at arguments, calls the codec, builds one
 * term; has no state, no resource and no lock, and what it does is bounded by one datagram.
 * The shapes of terms are documented in src/meerkat_stun.erl.
 *
 * Values of attributes are read and written by kind, one pair of functions per shape.
 */
#include <string.h>

#include "crypto.h"
#include "nif.h"
#include "stun.h"

/* Also in src/meerkat_stun.erl. */
enum { STUN_NIF_ABI = 1 };

/* ----------------------------------------------------------------------------------- atoms */

#define ATOMS(X)                                                                                   \
    X(ok)                                                                                          \
    X(error)                                                                                       \
    X(none)                                                                                        \
    X(sha1)                                                                                        \
    X(sha256)                                                                                      \
    X(both)                                                                                        \
    X(md5)                                                                                         \
    X(badarg)                                                                                      \
    X(class)                                                                                       \
    X(method)                                                                                      \
    X(transaction_id)                                                                              \
    X(attributes)                                                                                  \
    X(unknown)                                                                                     \
    X(malformed)                                                                                   \
    X(integrity)                                                                                   \
    X(fingerprint)                                                                                 \
    X(request)                                                                                     \
    X(indication)                                                                                  \
    X(success)                                                                                     \
    X(no_integrity)                                                                                \
    X(bad_integrity)

static struct {
#define X(name) ERL_NIF_TERM name;
    ATOMS(X)
#undef X
    ERL_NIF_TERM yes, no; /* true and false */
    ERL_NIF_TERM cls[4];
    ERL_NIF_TERM attr[STUN_ATTR_COUNT];
    ERL_NIF_TERM err[STUN_ERR_BAD_FAMILY + 1];
} am;

static struct {
    const char *name;
    uint16_t method;
    ERL_NIF_TERM atom;
} methods[] = {
    {"binding", STUN_BINDING, 0},
    {"allocate", STUN_ALLOCATE, 0},
    {"refresh", STUN_REFRESH, 0},
    {"send", STUN_SEND, 0},
    {"data", STUN_DATA, 0},
    {"create_permission", STUN_CREATE_PERMISSION, 0},
    {"channel_bind", STUN_CHANNEL_BIND, 0},
    {"connect", STUN_CONNECT, 0},
    {"connection_bind", STUN_CONNECTION_BIND, 0},
    {"connection_attempt", STUN_CONNECTION_ATTEMPT, 0},
};

/* Atoms are the same for ever, so a second load writes what stands there already. */
static void make_atoms(ErlNifEnv *env)
{
#define X(name) am.name = enif_make_atom(env, #name);
    ATOMS(X)
#undef X
    am.yes = enif_make_atom(env, "true");
    am.no = enif_make_atom(env, "false");
    am.cls[STUN_REQUEST] = am.request;
    am.cls[STUN_INDICATION] = am.indication;
    am.cls[STUN_SUCCESS] = am.success;
    am.cls[STUN_ERROR] = am.error;
    for (size_t i = 0; i < STUN_ATTR_COUNT; i++)
        am.attr[i] = enif_make_atom(env, stun_attr_table[i].name);
    for (size_t i = 0; i < ARRAY_SIZE(am.err); i++)
        am.err[i] = enif_make_atom(env, stun_err_name((enum stun_err)i));
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        methods[i].atom = enif_make_atom(env, methods[i].name);
}

static ERL_NIF_TERM make_error(ErlNifEnv *env, enum stun_err err)
{
    return nif_pair(env, am.error, am.err[err]);
}

/* A long datagram costs the caller part of its slice: a hundredth for each 2 KiB, about 10 us. */
static void pay(ErlNifEnv *env, size_t bytes)
{
    if (bytes >= 2048)
        (void)enif_consume_timeslice(env, (int)MIN(bytes / 2048, (size_t)100));
}

/* ---------------------------------------------------------------------------------- decode */

/* A message being turned into terms; bytes are sub-binaries of `packet`. */
struct reading {
    ErlNifEnv *env;
    ERL_NIF_TERM packet;
    const struct stun_view *view;
};

static ERL_NIF_TERM sub_binary(const struct reading *r, const uint8_t *p, size_t len)
{
    return enif_make_sub_binary(r->env, r->packet, (size_t)(p - r->view->data), len);
}

static ERL_NIF_TERM make_bool(bool b)
{
    return b ? am.yes : am.no;
}

static ERL_NIF_TERM make_address(ErlNifEnv *env, const struct addr *a)
{
    ERL_NIF_TERM part[8];
    unsigned n = a->family == ADDR_V4 ? 4 : 8;
    for (unsigned i = 0; i < n; i++)
        part[i] = enif_make_uint(env, n == 4 ? addr_v4(a)[i] : load16(a->ip + 2 * i));
    return enif_make_tuple2(env, enif_make_tuple_from_array(env, part, n),
                            enif_make_uint(env, a->port));
}

static enum stun_err read_address(const struct reading *r, const struct stun_iter *it,
                                  ERL_NIF_TERM *out)
{
    struct addr a;
    enum stun_err err = stun_iter_addr(it, &a);
    if (err == STUN_OK)
        *out = make_address(r->env, &a);
    return err;
}

static enum stun_err read_uint(const struct reading *r, const struct stun_iter *it,
                               ERL_NIF_TERM *out)
{
    uint64_t v;
    enum stun_kind kind = stun_attr_table[it->id].kind;
    enum stun_err err = stun_value_uint((enum stun_attr_id)it->id, it->value, it->len, &v);
    if (err != STUN_OK)
        return err;
    if (kind == STUN_KIND_FLAG || kind == STUN_KIND_EVEN)
        *out = make_bool(v != 0);
    else
        *out = enif_make_uint64(r->env, v);
    return STUN_OK;
}

static enum stun_err read_error(const struct reading *r, const struct stun_iter *it,
                                ERL_NIF_TERM *out)
{
    uint16_t code;
    uint8_t family;
    const uint8_t *reason;
    size_t len;
    enum stun_err err = stun_value_error((enum stun_attr_id)it->id, it->value, it->len, &code,
                                         &family, &reason, &len);
    if (err != STUN_OK)
        return err;
    ERL_NIF_TERM code_term = enif_make_uint(r->env, code);
    ERL_NIF_TERM reason_term = sub_binary(r, reason, len);
    if (stun_attr_table[it->id].kind == STUN_KIND_ADDRERR)
        *out = enif_make_tuple3(r->env, enif_make_uint(r->env, family), code_term, reason_term);
    else
        *out = enif_make_tuple2(r->env, code_term, reason_term);
    return STUN_OK;
}

static ERL_NIF_TERM make_types(ErlNifEnv *env, const uint8_t *value, size_t len)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (size_t i = len; i >= 2; i -= 2)
        list = enif_make_list_cell(env, enif_make_uint(env, load16(value + i - 2)), list);
    return list;
}

/* The algorithms of a value that has been checked, last first. */
static ERL_NIF_TERM make_algorithms(const struct reading *r, const uint8_t *value, size_t len)
{
    struct bytes rest = bytes_of(value, len);
    uint16_t algorithm;
    const uint8_t *params;
    size_t params_len;
    ERL_NIF_TERM list = enif_make_list(r->env, 0);
    while (stun_alg_next(&rest, &algorithm, &params, &params_len)) {
        ERL_NIF_TERM one = enif_make_tuple2(r->env, enif_make_uint(r->env, algorithm),
                                            sub_binary(r, params, params_len));
        list = enif_make_list_cell(r->env, one, list);
    }
    return list;
}

/* What is bytes to the codec and more than that to Erlang. */
static enum stun_err read_bytes(const struct reading *r, const struct stun_iter *it,
                                ERL_NIF_TERM *out)
{
    ErlNifEnv *env = r->env;
    const uint8_t *p = it->value;
    ERL_NIF_TERM tail;
    enum stun_err err = stun_value_check((enum stun_attr_id)it->id, p, it->len);
    if (err != STUN_OK)
        return err;
    switch (stun_attr_table[it->id].kind) {
    case STUN_KIND_ICMP:
        /* The figure in RFC 8656 18.13 says 7 and 9 bits, its text and ICMP 8 and 8 (erratum
         * 8901). */
        *out = enif_make_tuple3(env, enif_make_uint(env, p[2]), enif_make_uint(env, p[3]),
                                enif_make_uint(env, load32(p + 4)));
        break;
    case STUN_KIND_TYPES:
        *out = make_types(env, p, it->len);
        break;
    case STUN_KIND_ALG:
        (void)enif_get_list_cell(env, make_algorithms(r, p, it->len), out, &tail);
        break;
    case STUN_KIND_ALGS:
        (void)enif_make_reverse_list(env, make_algorithms(r, p, it->len), out);
        break;
    default:
        *out = sub_binary(r, p, it->len);
    }
    return STUN_OK;
}

static enum stun_err read_value(const struct reading *r, const struct stun_iter *it,
                                ERL_NIF_TERM *out)
{
    switch (stun_attr_table[it->id].kind) {
    case STUN_KIND_ADDR:
    case STUN_KIND_XADDR:
        return read_address(r, it, out);
    case STUN_KIND_ERROR:
    case STUN_KIND_ADDRERR:
        return read_error(r, it, out);
    case STUN_KIND_BYTES:
    case STUN_KIND_ICMP:
    case STUN_KIND_TYPES:
    case STUN_KIND_ALG:
    case STUN_KIND_ALGS:
        return read_bytes(r, it, out);
    default:
        return read_uint(r, it, out);
    }
}

static bool is_signature(int id)
{
    return id == A_message_integrity || id == A_message_integrity_sha256 || id == A_fingerprint;
}

static void read_attributes(const struct reading *r, ERL_NIF_TERM *attributes,
                            ERL_NIF_TERM *malformed)
{
    ErlNifEnv *env = r->env;
    ERL_NIF_TERM good = enif_make_list(env, 0), bad = enif_make_list(env, 0);
    struct stun_iter it;
    for (stun_iter_init(&it, r->view); stun_iter_next(&it);) {
        ERL_NIF_TERM name, value;
        if (it.id < 0) {
            name = enif_make_uint(env, it.code);
            value = sub_binary(r, it.value, it.len);
        } else {
            name = am.attr[it.id];
            if (read_value(r, &it, &value) != STUN_OK) {
                bad = enif_make_list_cell(env, name, bad);
                continue;
            }
            if (is_signature(it.id))
                continue;
        }
        good = enif_make_list_cell(env, enif_make_tuple2(env, name, value), good);
    }
    (void)enif_make_reverse_list(env, good, attributes);
    (void)enif_make_reverse_list(env, bad, malformed);
}

static ERL_NIF_TERM make_method(ErlNifEnv *env, uint16_t method)
{
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (methods[i].method == method)
            return methods[i].atom;
    return enif_make_uint(env, method);
}

static ERL_NIF_TERM make_unknown(ErlNifEnv *env, const struct stun_view *v)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (size_t i = v->unknown_count; i > 0; i--)
        list = enif_make_list_cell(env, enif_make_uint(env, v->unknown[i - 1]), list);
    return list;
}

static ERL_NIF_TERM make_integrity(const struct stun_view *v)
{
    if (stun_has(v, A_message_integrity))
        return stun_has(v, A_message_integrity_sha256) ? am.both : am.sha1;
    return stun_has(v, A_message_integrity_sha256) ? am.sha256 : am.none;
}

static ERL_NIF_TERM decode_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary packet;
    struct stun_view v;
    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &packet))
        return enif_make_badarg(env);
    enum stun_err err = stun_parse(&v, packet.data, packet.size);
    if (err != STUN_OK)
        return make_error(env, err);
    pay(env, packet.size);

    struct reading r = {env, argv[0], &v};
    ERL_NIF_TERM attributes, malformed, map;
    read_attributes(&r, &attributes, &malformed);
    ERL_NIF_TERM keys[] = {am.class,   am.method,    am.transaction_id, am.attributes,
                           am.unknown, am.malformed, am.integrity,      am.fingerprint};
    ERL_NIF_TERM values[] = {
        am.cls[v.cls],      make_method(env, v.method),   sub_binary(&r, v.txid, STUN_TXID_LEN),
        attributes,         make_unknown(env, &v),        malformed,
        make_integrity(&v), make_bool(v.has_fingerprint),
    };
    (void)enif_make_map_from_arrays(env, keys, values, ARRAY_SIZE(keys), &map);
    return nif_pair(env, am.ok, map);
}

/* ---------------------------------------------------------------------------------- encode */

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

static bool get_method(ErlNifEnv *env, ERL_NIF_TERM message, uint16_t *out)
{
    ERL_NIF_TERM term;
    uint64_t number;
    if (!enif_get_map_value(env, message, am.method, &term))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (enif_is_identical(term, methods[i].atom)) {
            *out = methods[i].method;
            return true;
        }
    if (!get_below(env, term, 0xfff, &number))
        return false;
    *out = (uint16_t)number;
    return true;
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
    if (!get_class(env, message, &cls) || !get_method(env, message, &method) ||
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
 * Here and below wrong arguments are a result, the atom badarg, and Erlang raises the error: an
 * exception of ours would carry the arguments into crash reports, and keys are among them.
 *
 * Nearly every message fits the stack; one that does not is written again, to its longest.
 */
static ERL_NIF_TERM encode_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
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

/* ------------------------------------------------------------------------------ credentials */

/* MESSAGE-INTEGRITY-SHA256 decides when present (RFC 8489 9.2.4). */
static ERL_NIF_TERM verify_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary packet, key;
    struct stun_view v;
    bool match = false;
    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &packet) || !enif_inspect_binary(env, argv[1], &key))
        return am.badarg;
    enum stun_err err = stun_parse(&v, packet.data, packet.size);
    if (err != STUN_OK)
        return make_error(env, err);
    pay(env, packet.size);
    if (stun_has(&v, A_message_integrity_sha256))
        err = stun_check_integrity_sha256(&v, key.data, key.size, &match);
    else
        err = stun_check_integrity(&v, key.data, key.size, &match);
    if (err == STUN_ERR_ABSENT)
        return nif_pair(env, am.error, am.no_integrity);
    return err == STUN_OK && match ? am.ok : nif_pair(env, am.error, am.bad_integrity);
}

/* key(md5 | sha256, User, Realm, Password) */
static ERL_NIF_TERM key_4(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary user, realm, password;
    ERL_NIF_TERM term;
    bool sha256 = enif_is_identical(argv[0], am.sha256);
    (void)argc;
    if ((!sha256 && !enif_is_identical(argv[0], am.md5)) ||
        !enif_inspect_iolist_as_binary(env, argv[1], &user) ||
        !enif_inspect_iolist_as_binary(env, argv[2], &realm) ||
        !enif_inspect_iolist_as_binary(env, argv[3], &password))
        return am.badarg;
    if (sha256)
        stun_key_sha256(user.data, user.size, realm.data, realm.size, password.data, password.size,
                        enif_make_new_binary(env, STUN_KEY_SHA256_LEN, &term));
    else
        stun_key_md5(user.data, user.size, realm.data, realm.size, password.data, password.size,
                     enif_make_new_binary(env, STUN_KEY_MD5_LEN, &term));
    return term;
}

static ERL_NIF_TERM userhash_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary user, realm;
    ERL_NIF_TERM term;
    (void)argc;
    if (!enif_inspect_iolist_as_binary(env, argv[0], &user) ||
        !enif_inspect_iolist_as_binary(env, argv[1], &realm))
        return enif_make_badarg(env);
    stun_userhash(user.data, user.size, realm.data, realm.size,
                  enif_make_new_binary(env, SHA256_LEN, &term));
    return term;
}

static ERL_NIF_TERM transaction_id_0(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ERL_NIF_TERM term;
    (void)argc;
    (void)argv;
    crypto_random(enif_make_new_binary(env, STUN_TXID_LEN, &term), STUN_TXID_LEN);
    return term;
}

/* ------------------------------------------------------------------------------------ table */

/* Bounded by a datagram, so all run on a normal scheduler. */
static ErlNifFunc functions[] = {
    {"decode", 1, decode_1, 0},     {"encode_nif", 1, encode_1, 0},
    {"verify_nif", 2, verify_2, 0}, {"key_nif", 4, key_4, 0},
    {"userhash", 2, userhash_2, 0}, {"transaction_id", 0, transaction_id_0, 0},
};

static int load(ErlNifEnv *env, void **priv_data, ERL_NIF_TERM load_info)
{
    (void)priv_data;
    if (!nif_abi_is(env, load_info, STUN_NIF_ABI))
        return 1;
    make_atoms(env);
    return 0;
}

static int upgrade(ErlNifEnv *env, void **priv_data, void **old_priv_data, ERL_NIF_TERM load_info)
{
    (void)old_priv_data;
    return load(env, priv_data, load_info);
}

ERL_NIF_INIT(meerkat_stun, functions, load, NULL, upgrade, NULL)
