/*
 * What every room may assume of the language: sizes, likelihood, static checks.
 * Knows no domain; includes nothing but the C library's own types.
 */
#ifndef MEERKAT_BASE_H
#define MEERKAT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)
#define COLD          __attribute__((cold, noinline)) /* a function for what seldom happens */
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
