/*
 * What the parts of meerkat_stun's library share: the atoms, methods as terms, and what a long
 * datagram costs. The shapes of terms are documented in src/base/meerkat_stun.erl.
 */
#ifndef MEERKAT_TERMS_H
#define MEERKAT_TERMS_H

#include "nif.h"
#include "stun.h"

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

extern struct stun_atoms {
#define X(name) ERL_NIF_TERM name;
    ATOMS(X)
#undef X
    ERL_NIF_TERM yes, no; /* true and false */
    ERL_NIF_TERM cls[4];
    ERL_NIF_TERM attr[STUN_ATTR_COUNT];
    ERL_NIF_TERM err[STUN_ERR_BAD_FAMILY + 1];
} am;

void make_atoms(ErlNifEnv *env);

/* A method's atom, or its number where it has none. */
ERL_NIF_TERM make_method(ErlNifEnv *env, uint16_t method);

/* The same backwards; false for anything else. */
bool get_method(ErlNifEnv *env, ERL_NIF_TERM term, uint16_t *out);

static inline ERL_NIF_TERM make_error(ErlNifEnv *env, enum stun_err err)
{
    return nif_pair(env, am.error, am.err[err]);
}

/* A long datagram costs the caller part of its slice: a hundredth for each 2 KiB, about 10 us. */
static inline void pay(ErlNifEnv *env, size_t bytes)
{
    if (bytes >= 2048)
        (void)enif_consume_timeslice(env, (int)MIN(bytes / 2048, (size_t)100));
}

static inline bool is_signature(int id)
{
    return id == A_message_integrity || id == A_message_integrity_sha256 || id == A_fingerprint;
}

/* decode/1 and encode/1 of meerkat_stun. */
ERL_NIF_TERM decode_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM encode_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
