/*
 * How long a worker waits before it looks again. Waking for each datagram costs more than the
 * datagram: while traffic is dense a worker waits until several can have come, or a little while.
 * Where it is not, and once a short wait has brought nothing, it waits for the first as long as it
 * takes: who is idle is not woken. Knows only times and numbers.
 *
 * The short wait is a plain sleep, which no datagram ends. If the kernel woke a worker at the Nth
 * datagram it would do so while the sender is still sending, on the sender's processor, and the
 * worker would have to wait again for the rest. After a turn that brought plenty it does not sleep:
 * more is there already.
 */
#ifndef MEERKAT_PACE_H
#define MEERKAT_PACE_H

#include <stdint.h>

enum {
    PACE_DATAGRAMS = 8,       /* to wait for together */
    PACE_LONGEST_NS = 60000,  /* and at most so long */
    PACE_WINDOW_NS = 1000000, /* over which density is measured */
    PACE_PLENTY = 33,         /* datagrams of one turn: more wait already */
};

struct pace {
    uint64_t since;      /* start of the window */
    uint32_t seen;       /* datagrams in it */
    uint32_t datagrams;  /* to wait for, by the window before; 0 before there was one, 1 where */
    uint32_t several_ns; /* they are too rare; and how long they take */
    uint32_t last;       /* datagrams that the last wait brought */
};

struct pace_wait {
    uint32_t datagrams; /* 1: no short wait */
    uint32_t ns;        /* the longest one */
    uint32_t sleep_ns;  /* as long as so many take; 0: no sleep */
};

/* What the wait that is over at `now` brought. */
void pace_note(struct pace *p, uint64_t now, uint32_t datagrams);

/* How to wait next. */
static inline struct pace_wait pace_next(const struct pace *p)
{
    if (p->last == 0 || p->datagrams <= 1)
        return (struct pace_wait){1, 0, 0};
    return (struct pace_wait){p->datagrams, PACE_LONGEST_NS,
                              p->last < PACE_PLENTY ? p->several_ns : 0};
}

/* Sleeps sleep_ns, no longer than timeout_ns. */
void pace_sleep(uint32_t sleep_ns, uint64_t timeout_ns);

#endif
