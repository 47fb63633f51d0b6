/*
 * A datagram as a term. Values of attributes are read by kind, one function per shape; bytes are
 * parts of the datagram, never copies.
 */
#include "terms.h"

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

ERL_NIF_TERM decode_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
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
