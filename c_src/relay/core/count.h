/*
 * Counting, by the rows of counters.def: written by the worker, read by anyone.
 */
#ifndef MEERKAT_COUNT_H
#define MEERKAT_COUNT_H

#include "shard.h"

static inline void count_n(struct shard *sh, enum counter c, uint64_t n)
{
    uint64_t v = atomic_load_explicit(&sh->counters[c], memory_order_relaxed);
    atomic_store_explicit(&sh->counters[c], v + n, memory_order_relaxed);
}

static inline void count(struct shard *sh, enum counter c)
{
    count_n(sh, c, 1);
}

/* What somebody else counts from his own start on. */
static inline void count_set(struct shard *sh, enum counter c, uint64_t value)
{
    atomic_store_explicit(&sh->counters[c], value, memory_order_relaxed);
}

#endif
