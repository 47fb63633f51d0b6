/*
 * A configuration file in libconfig's language, setting by setting, each with the file and line it
 * stands in. Knows no key: what a setting is called and what it may hold is decided elsewhere.
 *
 * Files are read, and includes followed, here; libconfig sees one text and opens nothing. It would
 * end the process when asked to read a directory, and it takes some faults in silence; those are
 * refused here: a string or comment without end, an integer out of range, \x00, a NUL byte.
 */
#ifndef MEERKAT_CONF_H
#define MEERKAT_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf_error.h"

enum conf_type {
    CONF_INTEGER,
    CONF_FLOAT,
    CONF_BOOLEAN,
    CONF_STRING,
    CONF_EMPTY_GROUP, /* {}; groups with something in them appear in paths only */
    CONF_EMPTY_LIST,  /* () or []; likewise */
};

/* From the root to a setting: the name of a group's member, or the index in a list or array. */
struct conf_step {
    const char *name; /* NULL for an index */
    unsigned index;   /* from 0 */
};

/* Valid during the call to the visitor, with all it points to. */
struct conf_setting {
    const struct conf_step *path;
    unsigned depth; /* steps in path, at least 1 */
    enum conf_type type;
    union {
        int64_t integer;
        double number; /* finite */
        bool boolean;
        const char *string;
    } u;
    const char *file;
    unsigned line; /* from 1; of a string that ends a list, possibly the line after */
};

typedef void conf_visit(void *ctx, const struct conf_setting *s);

/* Calls visit for each setting in the order of the text, but only if all of it could be read;
 * otherwise false, *err says why, and visit has not been called.
 *
 * A line that begins with @include "name" is replaced by that file, or if it is a directory by
 * the files in it whose names end in .conf or .cfg, in byte order. A relative name starts at the
 * directory of the file that holds the line. */
bool conf_read_file(const char *name, conf_visit *visit, void *ctx, struct conf_error *err);

/* Likewise from len bytes of text, which stand under `name` in places and errors. Nothing is
 * opened: @include is refused. */
bool conf_read_string(const char *name, const char *text, size_t len, conf_visit *visit, void *ctx,
                      struct conf_error *err);

/* "listeners[0].port"; cut off, but terminated, if buf is too short. Returns buf. */
const char *conf_path(const struct conf_setting *s, char *buf, size_t cap);

#endif
