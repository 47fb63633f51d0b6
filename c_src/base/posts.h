/*
 * A queue to one thread from any number of others: nobody waits, nothing is copied. What is in it
 * belongs to it until the reader takes it. It does not wake the reader: a writer that finds it
 * empty does.
 */
#ifndef MEERKAT_POSTS_H
#define MEERKAT_POSTS_H

#include <stdatomic.h>

#include "base.h"

/* Embedded in what is put in. */
struct post {
    struct post *next;
};

/* Zero is empty. */
struct posts {
    _Atomic(struct post *) last;
};

/* Any thread. True when it was empty: the reader may be asleep. */
static inline bool posts_put(struct posts *in, struct post *p)
{
    struct post *last = atomic_load_explicit(&in->last, memory_order_relaxed);
    do
        p->next = last;
    while (!atomic_compare_exchange_weak_explicit(&in->last, &last, p, memory_order_release,
                                                  memory_order_relaxed));
    return last == NULL;
}

/* The reader: all that is there, the oldest first; NULL if nothing is. */
static inline struct post *posts_take(struct posts *in)
{
    struct post *oldest = NULL;
    if (!atomic_load_explicit(&in->last, memory_order_relaxed))
        return NULL;
    struct post *p = atomic_exchange_explicit(&in->last, NULL, memory_order_acquire);
    while (p) {
        struct post *next = p->next;
        p->next = oldest;
        oldest = p;
        p = next;
    }
    return oldest;
}

#endif
