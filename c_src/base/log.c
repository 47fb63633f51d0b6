#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* One write per line, so lines of several threads do not mix. */
__attribute__((format(printf, 2, 0))) static void log_line(const char *level, const char *fmt,
                                                           va_list args)
{
    char line[512];
    int n = snprintf(line, sizeof(line), "%s: ", level);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
    n = m < 0 ? n : n + m;
    if (n > (int)sizeof(line) - 2)
        n = (int)sizeof(line) - 2;
    line[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)n);
    (void)ignored; /* nowhere left to complain */
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *fmt, ...)                                                                \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, fmt);                                                                       \
        log_line(level, fmt, args);                                                                \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_info, "info")
LOG_FUNCTION(log_error, "error")

void log_fatal(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_line("error", fmt, args);
    va_end(args);
    _exit(EXIT_SYSTEM);
}
