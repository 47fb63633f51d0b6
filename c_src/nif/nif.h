/*
 * What our NIF libraries share: the handshake with the Erlang module that loads them, and the
 * shapes of results. Knows neither STUN nor configuration.
 */
#ifndef MEERKAT_NIF_H
#define MEERKAT_NIF_H

#include <erl_nif.h>
#include <stdbool.h>

/*
 * The number a module passes to erlang:load_nif/2 and its library expects. Each module's ABI is
 * its own; raise it in both places when arguments or results change their shape, so that a stale
 * library is refused instead of believed.
 */
static inline bool nif_abi_is(ErlNifEnv *env, ERL_NIF_TERM load_info, int abi)
{
    int theirs;
    return enif_get_int(env, load_info, &theirs) && theirs == abi;
}

/*
 * A library of these functions. make_atoms runs at each load: atoms are the same for ever, so a
 * second one writes what stands there already.
 */
#define NIF_LIBRARY(module, functions, abi, make_atoms)                                            \
    static int load(ErlNifEnv *env, void **priv_data, ERL_NIF_TERM load_info)                      \
    {                                                                                              \
        (void)priv_data;                                                                           \
        if (!nif_abi_is(env, load_info, abi))                                                      \
            return 1;                                                                              \
        make_atoms(env);                                                                           \
        return 0;                                                                                  \
    }                                                                                              \
    static int upgrade(ErlNifEnv *env, void **priv_data, void **old, ERL_NIF_TERM load_info)       \
    {                                                                                              \
        (void)old;                                                                                 \
        return load(env, priv_data, load_info);                                                    \
    }                                                                                              \
    ERL_NIF_INIT(module, functions, load, NULL, upgrade, NULL)

/* {ok, Term} and {error, Atom}. Atoms by name: make them once, in load. */
static inline ERL_NIF_TERM nif_pair(ErlNifEnv *env, ERL_NIF_TERM tag, ERL_NIF_TERM term)
{
    return enif_make_tuple2(env, tag, term);
}

#endif
