/*
 * Ways back to clients. Whoever has to answer later keeps a way and not a pointer: it is resolved
 * when something is sent, and by then the end it leads to may be gone. An end is what a worker
 * sends through, such as a listener's socket.
 *
 * A way is worker (8 bits), generation (24), slot (32): one whose end is gone, or is another
 * worker's, resolves to nothing, though another end may have the slot by now.
 */
#ifndef MEERKAT_WAY_H
#define MEERKAT_WAY_H

#include "base.h"

struct listener;

struct way {
    uint64_t number; /* 0: none */
};

/* Embedded in what is sent through. */
struct way_end {
    struct listener *listener; /* the owner's: by which came who is at its end */
    struct way way;
    uint32_t holds; /* by those who may have to answer later */
};

struct ways {
    struct way_place {
        uint64_t number;     /* of the way; where free, slot + 1 of the next that is */
        struct way_end *end; /* NULL: free */
    } * places;
    uint32_t max, used, free;
    uint32_t generation; /* the latest given */
    unsigned worker;
};

/* False without address space. */
bool ways_init(struct ways *t, unsigned worker, uint32_t max);
void ways_destroy(struct ways *t);

/* From here on there is a way to the end. False when there are too many. */
bool way_open(struct ways *t, struct way_end *e);
/* From here on it resolves to nothing. */
void way_close(struct ways *t, struct way_end *e);

/* NULL when it is gone. */
static inline struct way_end *way_resolve(const struct ways *t, struct way w)
{
    const struct way_place *p = &t->places[(uint32_t)w.number];
    return LIKELY(p->number == w.number) ? p->end : NULL;
}

/* One hold, one release; both are harmless once it is gone. The end's owner closes it when he must,
 * or else waits until nobody holds it. */
static inline void way_hold(const struct ways *t, struct way w)
{
    struct way_end *e = way_resolve(t, w);
    if (e)
        e->holds++;
}

static inline void way_release(const struct ways *t, struct way w)
{
    struct way_end *e = way_resolve(t, w);
    if (e)
        e->holds--;
}

#endif
