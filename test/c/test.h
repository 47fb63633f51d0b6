/*
 * The whole of our C test harness: checks that say where and what, a count, an exit status.
 * Each file of test/c/unit is one program that ends with `return test_end("name");`.
 * Header only; knows nothing of what is tested.
 */
#ifndef MEERKAT_TEST_H
#define MEERKAT_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *name; /* of the checks that follow */
    unsigned checks, failed;
} test_state = {.name = "start"};

/* Names the checks that follow: what is promised, and the row of the threat table if one asks. */
static inline void test_begin(const char *name)
{
    test_state.name = name;
}

/* Says the sum in one line, "stun: 123 checks, 0 failed"; what main returns. */
static inline int test_end(const char *program)
{
    printf("%s: %u checks, %u failed\n", program, test_state.checks, test_state.failed);
    return test_state.failed == 0 && test_state.checks > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline bool test_note(bool ok, const char *file, int line, const char *what)
{
    test_state.checks++;
    if (!ok) {
        test_state.failed++;
        fprintf(stderr, "%s:%d: %s: %s\n", file, line, test_state.name, what);
    }
    return ok;
}

static inline bool test_eq(long long a, long long b, const char *file, int line, const char *what)
{
    bool ok = test_note(a == b, file, line, what);
    if (!ok)
        fprintf(stderr, "    got %lld (0x%llx), want %lld (0x%llx)\n", a, (unsigned long long)a, b,
                (unsigned long long)b);
    return ok;
}

static inline void test_dump(const char *label, const void *p, size_t len)
{
    const uint8_t *b = p;
    fprintf(stderr, "    %s ", label);
    for (size_t i = 0; i < len; i++)
        fprintf(stderr, "%02x", b[i]);
    fprintf(stderr, "\n");
}

static inline bool test_mem(const void *a, size_t a_len, const void *b, size_t b_len,
                            const char *file, int line, const char *what)
{
    bool ok = a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
    test_note(ok, file, line, what);
    if (!ok) {
        test_dump("got ", a, a_len);
        test_dump("want", b, b_len);
    }
    return ok;
}

static inline bool test_str(const char *a, const char *b, const char *file, int line,
                            const char *what)
{
    return test_mem(a, strlen(a), b, strlen(b), file, line, what);
}

#define TEST_HERE __FILE__, __LINE__

/* Each is an expression: true when the check held. CHECK_EQ compares integers. */
#define CHECK(cond)          test_note((cond), TEST_HERE, #cond)
#define CHECK_EQ(a, b)       test_eq((long long)(a), (long long)(b), TEST_HERE, #a " == " #b)
#define CHECK_MEM(a, b, len) test_mem((a), (len), (b), (len), TEST_HERE, #a " is " #b)
#define CHECK_STR(a, b)      test_str((a), (b), TEST_HERE, #a " is " #b)
#define CHECK_BYTES(a, a_len, b, b_len)                                                            \
    test_mem((a), (a_len), (b), (b_len), TEST_HERE, #a " is " #b)

/* A copy of exactly len bytes on the heap, so that a sanitizer sees the first byte too far. */
static inline uint8_t *test_exact(const void *data, size_t len)
{
    uint8_t *p = malloc(len ? len : 1);
    if (!p)
        abort();
    if (len)
        memcpy(p, data, len);
    return p;
}

/* An IPv4 address of loopback that no other process takes, nor sends anything to. */
static inline const char *test_loopback(void)
{
    static char ip[16];
    unsigned pid = (unsigned)getpid();
    snprintf(ip, sizeof(ip), "127.%u.%u.%u", 64 + (pid >> 16 & 127), pid >> 8 & 255, pid & 255);
    return ip;
}

/* Hex digits to bytes, up to the first character that is none; how many bytes. */
static inline size_t test_hex(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = 0;
    unsigned byte;
    while (n < cap && sscanf(hex + 2 * n, "%2x", &byte) == 1)
        out[n++] = (uint8_t)byte;
    return n;
}

#endif
