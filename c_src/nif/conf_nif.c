/*
 * meerkat_conf_nif's native half: settings of a configuration file as terms, in the order of the
 * file. Looks at arguments, calls the reader, builds one term; has no state and no resource, and
 * knows no key. The shapes of terms are documented in src/base/meerkat_conf_nif.erl.
 */
#include <string.h>

#include "conf.h"
#include "nif.h"

/* Also in src/base/meerkat_conf_nif.erl. */
enum { CONF_NIF_ABI = 1 };

static struct {
    ERL_NIF_TERM ok, error, file, line, yes, no, empty_group, empty_list;
} am;

static void make_atoms(ErlNifEnv *env)
{
    am.ok = enif_make_atom(env, "ok");
    am.error = enif_make_atom(env, "error");
    am.file = enif_make_atom(env, "file");
    am.line = enif_make_atom(env, "line");
    am.yes = enif_make_atom(env, "true");
    am.no = enif_make_atom(env, "false");
    am.empty_group = enif_make_atom(env, "empty_group");
    am.empty_list = enif_make_atom(env, "empty_list");
}

static ERL_NIF_TERM make_binary(ErlNifEnv *env, const char *text)
{
    size_t len = strlen(text);
    ERL_NIF_TERM term;

    memcpy(enif_make_new_binary(env, len, &term), text, len);
    return term;
}

/* --- settings --- */

struct result {
    ErlNifEnv *env;
    ERL_NIF_TERM settings; /* the last one first */
    const char *file;      /* whose term is file_term */
    ERL_NIF_TERM file_term;
};

static ERL_NIF_TERM make_path(ErlNifEnv *env, const struct conf_setting *s)
{
    ERL_NIF_TERM path = enif_make_list(env, 0);

    for (unsigned i = s->depth; i-- > 0;) {
        const struct conf_step *step = &s->path[i];
        ERL_NIF_TERM term =
            step->name ? make_binary(env, step->name) : enif_make_uint(env, step->index);
        path = enif_make_list_cell(env, term, path);
    }
    return path;
}

static ERL_NIF_TERM make_value(ErlNifEnv *env, const struct conf_setting *s)
{
    switch (s->type) {
    case CONF_INTEGER:
        return enif_make_int64(env, s->u.integer);
    case CONF_FLOAT:
        return enif_make_double(env, s->u.number);
    case CONF_BOOLEAN:
        return s->u.boolean ? am.yes : am.no;
    case CONF_STRING:
        return make_binary(env, s->u.string);
    case CONF_EMPTY_GROUP:
        return am.empty_group;
    case CONF_EMPTY_LIST:
        break;
    }
    return am.empty_list;
}

static ERL_NIF_TERM make_place(struct result *r, const struct conf_setting *s)
{
    ERL_NIF_TERM keys[] = {am.file, am.line}, values[2], map;

    if (r->file != s->file) {
        r->file = s->file;
        r->file_term = make_binary(r->env, s->file);
    }
    values[0] = r->file_term;
    values[1] = enif_make_uint(r->env, s->line);
    enif_make_map_from_arrays(r->env, keys, values, 2, &map);
    return map;
}

static void add_setting(void *ctx, const struct conf_setting *s)
{
    struct result *r = ctx;
    ERL_NIF_TERM setting =
        enif_make_tuple3(r->env, make_path(r->env, s), make_value(r->env, s), make_place(r, s));

    r->settings = enif_make_list_cell(r->env, setting, r->settings);
}

static ERL_NIF_TERM make_result(const struct result *r)
{
    ERL_NIF_TERM settings;

    enif_make_reverse_list(r->env, r->settings, &settings);
    return nif_pair(r->env, am.ok, settings);
}

static ERL_NIF_TERM make_error(ErlNifEnv *env, const struct conf_error *err)
{
    return nif_pair(env, am.error,
                    enif_make_tuple3(env, make_binary(env, err->file),
                                     enif_make_uint(env, err->line),
                                     make_binary(env, err->reason)));
}

/* --- functions --- */

static ERL_NIF_TERM read_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct result r = {.env = env, .settings = enif_make_list(env, 0)};
    char name[CONF_FILE_NAME_MAX];
    struct conf_error err;
    ErlNifBinary bin;
    (void)argc;

    if (!enif_inspect_binary(env, argv[0], &bin) || bin.size >= sizeof(name) ||
        memchr(bin.data, '\0', bin.size))
        return enif_make_badarg(env);
    memcpy(name, bin.data, bin.size);
    name[bin.size] = '\0';
    return conf_read_file(name, add_setting, &r, &err) ? make_result(&r) : make_error(env, &err);
}

static ERL_NIF_TERM read_string_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct result r = {.env = env, .settings = enif_make_list(env, 0)};
    struct conf_error err;
    ErlNifBinary bin;
    (void)argc;

    if (!enif_inspect_iolist_as_binary(env, argv[0], &bin))
        return enif_make_badarg(env);
    return conf_read_string("string", (const char *)bin.data, bin.size, add_setting, &r, &err)
               ? make_result(&r)
               : make_error(env, &err);
}

/* Both may take as long as a file of CONF_SIZE_MAX or a disk does. */
static ErlNifFunc functions[] = {
    {"read_nif", 1, read_1, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"read_string", 1, read_string_1, ERL_NIF_DIRTY_JOB_CPU_BOUND},
};

NIF_LIBRARY(meerkat_conf_nif, functions, CONF_NIF_ABI, make_atoms)
