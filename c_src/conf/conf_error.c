#include "conf_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool conf_fail(struct conf_error *err, const char *file, unsigned line, const char *fmt, ...)
{
    va_list args;

    snprintf(err->file, sizeof(err->file), "%s", file);
    err->line = line;
    va_start(args, fmt);
    vsnprintf(err->reason, sizeof(err->reason), fmt, args);
    va_end(args);
    return false;
}

bool conf_fail_errno(struct conf_error *err, const char *file, int error)
{
    return conf_fail(err, file, 0, "%s", strerror(error));
}
