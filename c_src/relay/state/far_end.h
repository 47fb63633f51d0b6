/*
 * What shortcuts of other sessions, of any worker, hold of a session (docs/design/shortcuts.md): a
 * number that says whether what they were told of it still holds, and what they count for it.
 *
 * The memory is that of the session's worker. Whoever keeps a pointer holds it, so that it is not
 * another session's while he looks; the owner frees it when nobody does. All that others touch is
 * atomic.
 */
#ifndef MEERKAT_FAR_END_H
#define MEERKAT_FAR_END_H

#include <stdalign.h>
#include <stdatomic.h>

#include "bucket.h"
#include "list.h"
#include "slab.h"

enum { SESSION_DROPS = 14 }; /* no_channel to send_failed of counters.def */

struct far_end {
    alignas(64) _Atomic uint64_t number; /* another after each change of what was said */
    _Atomic uint64_t packets, bytes;     /* to the session's client; since they were added to it */
    struct bucket bucket, paced;         /* what limits the session towards its client */
    _Atomic uint32_t holds;
    _Atomic uint64_t drops[SESSION_DROPS];
    struct list in_left;
};

struct far_ends {
    struct slab slab;
    struct list left; /* their sessions have ended, and somebody held them then */
};

bool far_ends_init(struct far_ends *t, uint32_t max);
void far_ends_destroy(struct far_ends *t);

/* NULL when the table is full. Frees some of those left behind that nobody holds any more. */
struct far_end *far_end_open(struct far_ends *t);
/* The session ends: nobody is told of it any more. */
void far_end_leave(struct far_ends *t, struct far_end *e);

/* What was said does not hold any more. NULL: nobody was told. */
static inline void far_end_change(struct far_end *e)
{
    if (UNLIKELY(e != NULL))
        atomic_fetch_add_explicit(&e->number, 1, memory_order_release);
}

static inline uint64_t far_end_number(const struct far_end *e)
{
    return atomic_load_explicit(&e->number, memory_order_acquire);
}

/* Any thread, for whoever is to get a pointer, or has one. */
static inline void far_end_hold(struct far_end *e)
{
    atomic_fetch_add_explicit(&e->holds, 1, memory_order_relaxed);
}

static inline void far_end_release(struct far_end *e)
{
    atomic_fetch_sub_explicit(&e->holds, 1, memory_order_release);
}

/* Any thread that holds it: so many packets more, or less. */
static inline void far_end_count(struct far_end *e, uint64_t packets, uint64_t bytes)
{
    atomic_fetch_add_explicit(&e->packets, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->bytes, bytes, memory_order_relaxed);
}

#endif
