/*
 * Counts of durations in buckets that grow with the value: a percentile read from it is at most
 * 0.8 % above the true one, and the largest value is exact. Takes nanoseconds, from 0 to over an
 * hour; knows no clock.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <string.h>

enum {
    HISTOGRAM_SUB = 128, /* buckets for each doubling */
    HISTOGRAM_BITS = 42, /* larger values count as the largest of so many bits */
    HISTOGRAM_SIZE = (HISTOGRAM_BITS - 6) * HISTOGRAM_SUB,
};

struct histogram {
    uint64_t total, max;
    uint64_t count[HISTOGRAM_SIZE];
};

static inline void histogram_clear(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

/* Values below 256 have a bucket each; a bucket of what has n bits more spans 2^n. */
static inline unsigned histogram_index(uint64_t value)
{
    if (value >> HISTOGRAM_BITS)
        value = (1ull << HISTOGRAM_BITS) - 1;
    if (value < 2 * HISTOGRAM_SUB)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - 7;
    return shift * HISTOGRAM_SUB + (unsigned)(value >> shift);
}

/* The largest value of a bucket. */
static inline uint64_t histogram_upper(unsigned index)
{
    if (index < 2 * HISTOGRAM_SUB)
        return index;
    unsigned shift = index / HISTOGRAM_SUB - 1;
    return (((uint64_t)index - shift * HISTOGRAM_SUB + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->count[histogram_index(value)]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

/* So much or less took `part` (0..1) of all; 0 when nothing was added. */
static inline uint64_t histogram_percentile(const struct histogram *h, double part)
{
    double wanted = part * (double)h->total;
    uint64_t seen = 0;
    for (unsigned i = 0; h->total && i < HISTOGRAM_SIZE; i++) {
        seen += h->count[i];
        if (seen && (double)seen >= wanted)
            return histogram_upper(i) < h->max ? histogram_upper(i) : h->max;
    }
    return h->max;
}

#endif
