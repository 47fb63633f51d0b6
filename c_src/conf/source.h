/*
 * The files of a configuration joined into one text, with a note of which line came from where.
 * Reads as much of the language as it takes to tell code from strings and comments, follows
 * includes, and refuses what libconfig should not see (conf.h says what). Private to this room.
 */
#ifndef MEERKAT_SOURCE_H
#define MEERKAT_SOURCE_H

#include <stddef.h>

#include "conf_error.h"

/* From `joined` on, lines of the text are those of files[file] from `line` on. */
struct piece {
    unsigned joined, file, line;
};

struct source {
    char *text; /* NUL-terminated */
    size_t len, cap;
    size_t size;    /* of the files as they were */
    unsigned lines; /* begun in text */
    struct piece *pieces;
    size_t piece_count;
    char *files[CONF_FILES_MAX];
    unsigned file_count;
    unsigned nesting;
    bool may_include;
    struct conf_error *err;
};

/* Starts from {.lines = 1, .may_include = ..., .err = ...}; source_free() in any case. Each is
 * false after conf_fail(). */
bool source_add_file(struct source *s, const char *name);
bool source_add_text(struct source *s, const char *name, const char *text);

/* The file, and in *line the line of it, that a line of the joined text came from. */
const char *source_find(const struct source *s, unsigned joined, unsigned *line);

void source_free(struct source *s);

#endif
