/*
 * Requests Erlang has and has not answered: each holds a credit, of which there are so many, and
 * remembers where its answer goes. Knows neither messages nor Erlang.
 *
 * Who has a session is served before who has none: strangers together hold at most three quarters
 * of the credits, and those of one source (source.h) a sixteenth.
 *
 * A number is worker (8 bits), generation (24), slot (32): an answer that comes after its slot was
 * given to another request is recognised.
 */
#ifndef MEERKAT_PENDING_H
#define MEERKAT_PENDING_H

#include "list.h"
#include "slab.h"
#include "source.h"
#include "transport.h"

enum { PENDING_SOURCES = 1024 }; /* counted apart; those that meet in a place share it */

struct pending {
    struct list in_order;
    uint64_t since;
    uint32_t generation; /* 0: the slot is free */
    uint32_t stranger;   /* 0: it has a session; else the place of its source + 1 */
    struct flow flow;
    bool holds; /* its client (transport.h) */
};

struct pendings {
    struct slab slab;
    struct list in_order; /* oldest first */
    uint32_t generation;  /* the latest given */
    unsigned worker;
    uint32_t strangers;                  /* credits that those without a session hold */
    uint32_t by_source[PENDING_SOURCES]; /* and of them those of a source */
    uint8_t key[SOURCE_KEY_LEN];
    const struct ways *ways;
};

/* False without address space. */
bool pendings_init(struct pendings *t, const struct ways *ways, unsigned worker, uint32_t credits);
void pendings_destroy(struct pendings *t);

/* NULL without a credit for such a request. Those that have waited for longer than any client does
 * are given to others. */
struct pending *pending_take(struct pendings *t, const struct flow *f, bool has_session,
                             uint64_t now);
/* Gives up those that have waited for longer than any client does. */
void pending_sweep(struct pendings *t, uint64_t now);
uint64_t pending_number(const struct pendings *t, const struct pending *p);
/* NULL when that request is not pending (any more). */
struct pending *pending_find(const struct pendings *t, uint64_t number);
/* The one that has waited longest; NULL without any. */
struct pending *pending_first(const struct pendings *t);
/* Returns the credit. */
void pending_release(struct pendings *t, struct pending *p);

#endif
