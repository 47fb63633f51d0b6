/*
 * meerkat_journal's native half: the reader's end of a journal (journal.h) as a resource. Its
 * memory goes with the last term that names it. One process at a time reads; whether there is
 * something to read any may ask.
 */
#include <errno.h>
#include <string.h>

#include "journal.h"
#include "nif.h"

/* Also in src/base/meerkat_journal.erl. */
enum { JOURNAL_NIF_ABI = 1 };

static struct {
    ERL_NIF_TERM ok, error, yes, no, malformed;
} am;

static ErlNifResourceType *books;

static void let_go(ErlNifEnv *env, void *book)
{
    (void)env;
    journal_end(book);
}

static void prepare(ErlNifEnv *env)
{
    am.ok = enif_make_atom(env, "ok");
    am.error = enif_make_atom(env, "error");
    am.yes = enif_make_atom(env, "true");
    am.no = enif_make_atom(env, "false");
    am.malformed = enif_make_atom(env, "malformed");
    books = enif_open_resource_type(env, NULL, "meerkat_journal", let_go,
                                    ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
}

static struct journal_book *book_of(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *book;
    return books && enif_get_resource(env, term, books, &book) ? book : NULL;
}

static ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text)
{
    ERL_NIF_TERM term;
    size_t len = strlen(text);
    memcpy(enif_make_new_binary(env, len, &term), text, len);
    return term;
}

/* make(Rings) */
static ERL_NIF_TERM make_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    char path[JOURNAL_PATH_MAX];
    unsigned rings;
    (void)argc;
    if (!books || !enif_get_uint(env, argv[0], &rings))
        return enif_make_badarg(env);
    struct journal_book *b = enif_alloc_resource(books, sizeof(*b));
    int ret = journal_make(b, rings);
    ERL_NIF_TERM term = enif_make_resource(env, b);
    enif_release_resource(b); /* from here on it is the term's */
    if (ret)
        return nif_pair(env, am.error, make_text(env, strerror(-ret)));
    journal_path(b, path);
    return enif_make_tuple3(env, am.ok, term, make_text(env, path));
}

struct heard {
    ErlNifEnv *env;
    ERL_NIF_TERM notes; /* the last one first */
    unsigned count;
};

static void hear(void *ctx, uint64_t age_ms, const uint8_t *note, uint32_t len)
{
    struct heard *h = ctx;
    ERL_NIF_TERM bytes;
    memcpy(enif_make_new_binary(h->env, len, &bytes), note, len);
    ERL_NIF_TERM pair = enif_make_tuple2(h->env, enif_make_uint64(h->env, age_ms), bytes);
    h->notes = enif_make_list_cell(h->env, pair, h->notes);
    h->count++;
}

/* Bounded by what the rings hold; some hundred notes are a time slice. */
static ERL_NIF_TERM read_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct journal_book *b = book_of(env, argv[0]);
    struct heard h = {env, enif_make_list(env, 0), 0};
    ERL_NIF_TERM notes;
    (void)argc;
    if (!b)
        return enif_make_badarg(env);
    if (!journal_read(b, hear, &h))
        return am.malformed;
    if (h.count > 8)
        enif_consume_timeslice(env, (int)MIN(100u, h.count / 8));
    enif_make_reverse_list(env, h.notes, &notes);
    return notes;
}

static ERL_NIF_TERM taken_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct journal_book *b = book_of(env, argv[0]);
    (void)argc;
    if (!b)
        return enif_make_badarg(env);
    journal_taken(b);
    return am.ok;
}

static ERL_NIF_TERM is_taken_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct journal_book *b = book_of(env, argv[0]);
    (void)argc;
    if (!b)
        return enif_make_badarg(env);
    return journal_is_taken(b) ? am.yes : am.no;
}

static ErlNifFunc functions[] = {
    {"make", 1, make_1, 0},
    {"read", 1, read_1, 0},
    {"taken", 1, taken_1, 0},
    {"is_taken", 1, is_taken_1, 0},
};

NIF_LIBRARY(meerkat_journal, functions, JOURNAL_NIF_ABI, prepare)
