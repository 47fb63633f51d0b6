/*
 * A timer wheel: many deadlines of seconds to an hour, a few due at a time. Whoever uses a thing
 * with a deadline compares the deadline with the time himself; the wheel only makes sure that what
 * is over is removed within a tick or two. What is to happen then stands in the timer: the wheel
 * does not know who owns it.
 */
#ifndef MEERKAT_TIMER_H
#define MEERKAT_TIMER_H

#include "list.h"

enum { TIMER_SLOTS = 1024 };
#define TIMER_TICK_NS 250000000ull

struct timers;

struct timer {
    uint64_t deadline; /* nanoseconds, the clock's */
    /* The owner's, set before the first timer_set: the deadline has come. The timer is cleared
     * before the call, and the owner may go in it. He finds himself by container_of, and what the
     * wheel is part of likewise. */
    void (*due)(struct timers *w, struct timer *t);
    struct list in_slot;
};

struct timers {
    struct list slots[TIMER_SLOTS];
    uint64_t tick; /* all slots up to and including this tick have been swept */
    uint32_t count;
};

void timers_init(struct timers *w, uint64_t now);
/* Sets or moves a deadline. */
void timer_set(struct timers *w, struct timer *t, uint64_t deadline);
/* Harmless on a timer that is not set. */
void timer_clear(struct timers *w, struct timer *t);
/* Calls due of every timer whose deadline has come. */
void timers_run(struct timers *w, uint64_t now);
/* How long the owner may sleep: to the next tick, or for ever (UINT64_MAX) without timers. */
uint64_t timers_sleep(const struct timers *w, uint64_t now);

#endif
