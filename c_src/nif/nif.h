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

/* {ok, Term} and {error, Atom}. Atoms by name: make them once, in load. */
static inline ERL_NIF_TERM nif_pair(ErlNifEnv *env, ERL_NIF_TERM tag, ERL_NIF_TERM term)
{
    return enif_make_tuple2(env, tag, term);
}

#endif
