/*
 * The atoms that messages are made of, by the tables of the codec.
 */
#include "terms.h"

struct stun_atoms am;

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

void make_atoms(ErlNifEnv *env)
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

ERL_NIF_TERM make_method(ErlNifEnv *env, uint16_t method)
{
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (methods[i].method == method)
            return methods[i].atom;
    return enif_make_uint(env, method);
}

bool get_method(ErlNifEnv *env, ERL_NIF_TERM term, uint16_t *out)
{
    unsigned number;
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (enif_is_identical(term, methods[i].atom)) {
            *out = methods[i].method;
            return true;
        }
    if (!enif_get_uint(env, term, &number) || number > 0xfff)
        return false;
    *out = (uint16_t)number;
    return true;
}
