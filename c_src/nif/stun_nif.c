/*
 * meerkat_stun's native half: looks at arguments, calls the codec, builds one term; has no state,
 * no resource and no lock, and what it does is bounded by one datagram. Messages as terms are made
 * in decode.c and taken apart in encode.c; here are credentials, and the table of functions.
 */
#include "crypto.h"
#include "terms.h"

/* Also in src/base/meerkat_stun.erl. */
enum { STUN_NIF_ABI = 1 };

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

/* Bounded by a datagram, so all run on a normal scheduler. */
static ErlNifFunc functions[] = {
    {"decode", 1, decode_1, 0},     {"encode_nif", 1, encode_1, 0},
    {"verify_nif", 2, verify_2, 0}, {"key_nif", 4, key_4, 0},
    {"userhash", 2, userhash_2, 0}, {"transaction_id", 0, transaction_id_0, 0},
};

NIF_LIBRARY(meerkat_stun, functions, STUN_NIF_ABI, make_atoms)
