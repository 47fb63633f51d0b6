/*
 * How long a worker waits before it looks again. Waking for each datagram costs more than the
 * datagram: while traffic is dense a worker waits until several can have come, or a little while.
 * Where it is not, and once a short wait has brought nothing, it waits for the first as long as it
 * takes: who is idle is not woken. Knows only times and numbers.
 */
#ifndef MEERKAT_PACE_H
#define MEERKAT_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PACE_DATAGRAMS = 8,       /* to wait for together */
    PACE_LONGEST_NS = 60000,  /* and at most so long */
    PACE_WINDOW_NS = 1000000, /* over which density is measured */
};

struct pace {
    uint64_t since;  /* start of the window */
    uint32_t seen;   /* datagrams in it */
    uint32_t gap_ns; /* from one to the next, in the window before; 0 before there was one */
    bool nothing;    /* the last short wait was in vain */
};

struct pace_wait {
    uint32_t datagrams; /* 1: no short wait */
    uint32_t ns;
};

/* What the wait that is over at `now` brought. */
void pace_note(struct pace *p, uint64_t now, uint32_t datagrams);

/* How to wait next. */
struct pace_wait pace_next(const struct pace *p);

#endif
