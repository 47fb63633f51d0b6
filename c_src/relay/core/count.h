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

/* Takes back what was counted and then did not happen. */
static inline void count_back(struct shard *sh, enum counter c, uint64_t n)
{
    count_n(sh, c, -n);
}

_Static_assert(CTR_send_failed - CTR_no_channel + 1 == SESSION_DROPS,
               "what count_drops() is told is counted per session");

/* So many of a session, for one of the reasons it counts. */
static inline void count_drops(struct shard *sh, struct session *s, enum counter reason, uint64_t n)
{
    session_drop(&sh->sessions, s, reason - CTR_no_channel, n);
    count_n(sh, reason, n);
}

/* What somebody else counts from his own start on. */
static inline void count_set(struct shard *sh, enum counter c, uint64_t value)
{
    atomic_store_explicit(&sh->counters[c], value, memory_order_relaxed);
}

#endif
