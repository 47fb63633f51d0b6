/*
 * Lines for an operator, on stderr: "level: text". What runs the program adds time and place.
 * Never called for a packet; never given a secret or a stranger's bytes.
 */
#ifndef MEERKAT_LOG_H
#define MEERKAT_LOG_H

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
