/*
 * What is wrong with a configuration file, and the limits of one.
 */
#ifndef MEERKAT_CONF_ERROR_H
#define MEERKAT_CONF_ERROR_H

#include <stdbool.h>

enum conf_limits {
    CONF_SIZE_MAX = 1 << 20,    /* bytes, all files together */
    CONF_FILES_MAX = 256,       /* files read in all */
    CONF_INCLUDE_DEPTH_MAX = 8, /* files that include each other */
    CONF_NESTING_MAX = 32,      /* groups, lists and arrays within each other */
    CONF_FILE_NAME_MAX = 1024,  /* with its NUL */
    CONF_REASON_MAX = 256,      /* likewise */
};

struct conf_error {
    char file[CONF_FILE_NAME_MAX];
    unsigned line; /* 0 when the fault is the file's as a whole */
    char reason[CONF_REASON_MAX];
};

/* Fills *err; always false. */
bool conf_fail(struct conf_error *err, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bool conf_fail_errno(struct conf_error *err, const char *file, int error);

#endif
