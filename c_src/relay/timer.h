/*
 * A timer wheel: many deadlines of seconds to an hour, a few due at a time. It is the broom, not
 * the law: whoever uses a thing with a deadline compares it with the time himself; the wheel only
 * makes sure that what is over is swept within a tick or two.
 */
#ifndef MEERKAT_TIMER_H
#define MEERKAT_TIMER_H

#include "list.h"

enum { TIMER_SLOTS = 1024 };
#define TIMER_TICK_NS 250000000ull

struct timer {
    uint64_t deadline; /* nanoseconds, the clock's */
    uint8_t kind;      /* the owner's */
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
/* Calls due(ctx, t) for every timer whose deadline has come; it is cleared before the call. */
void timers_run(struct timers *w, uint64_t now, void (*due)(void *ctx, struct timer *t), void *ctx);
/* How long the owner may sleep: to the next tick, or for ever (UINT64_MAX) without timers. */
uint64_t timers_sleep(const struct timers *w, uint64_t now);

#endif
