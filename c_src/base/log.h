/*
 * Lines for an operator, on stderr: "level: text". What runs the program adds time and place.
 * Never called for a packet; never given a secret or a stranger's bytes. Waits for nobody:
 * where stderr takes nothing a line is lost, and the next one says so.
 */
#ifndef MEERKAT_LOG_H
#define MEERKAT_LOG_H

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Status of a program that the system failed: Erlang starts another and replays. */
enum { EXIT_SYSTEM = 71 };

/* A line of error, then the program ends at once with EXIT_SYSTEM. Any thread. */
void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
