#include "log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic unsigned lost;

/* A pipe that is not read has no room some day, and who writes to it then waits for its reader: no
 * worker may. What is ready takes a line, or several of threads that ask at a time. */
static bool has_room(void)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) != 0;
}

/* One write per line, so lines of several threads do not mix. */
__attribute__((format(printf, 2, 0))) static void log_line(const char *level, const char *fmt,
                                                           va_list args)
{
    char line[512];
    if (!has_room()) {
        atomic_fetch_add(&lost, 1);
        return;
    }
    unsigned before = atomic_exchange(&lost, 0);
    int n = snprintf(line, sizeof(line), "%s: ", level);
    if (before)
        n += snprintf(line + n, sizeof(line) - (size_t)n,
                      "(%u lines before were lost: nobody read them) ", before);
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
