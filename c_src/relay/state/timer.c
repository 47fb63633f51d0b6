/*
 * One wheel of TIMER_SLOTS ticks. A deadline beyond one turn lies in the slot it will have at its
 * turn and is looked at once per turn; prolonging one leaves it where it is until then.
 */
#include "timer.h"

static uint64_t tick_of(uint64_t ns)
{
    return ns / TIMER_TICK_NS;
}

static void put(struct timers *w, struct timer *t)
{
    uint64_t tick = tick_of(t->deadline) + 1; /* swept when it is surely over */
    if (tick <= w->tick)
        tick = w->tick + 1;
    list_add_tail(&w->slots[tick % TIMER_SLOTS], &t->in_slot);
}

void timers_init(struct timers *w, uint64_t now)
{
    for (size_t i = 0; i < TIMER_SLOTS; i++)
        list_init(&w->slots[i]);
    w->tick = tick_of(now);
    w->count = 0;
}

void timer_set(struct timers *w, struct timer *t, uint64_t deadline)
{
    bool set = t->in_slot.next && !list_empty(&t->in_slot);
    if (set && deadline >= t->deadline) {
        t->deadline = deadline; /* found early, moved then */
        return;
    }
    if (set)
        list_del(&t->in_slot);
    else
        w->count++;
    t->deadline = deadline;
    put(w, t);
}

void timer_clear(struct timers *w, struct timer *t)
{
    if (!t->in_slot.next || list_empty(&t->in_slot))
        return;
    list_del(&t->in_slot);
    w->count--;
}

void timers_run(struct timers *w, uint64_t now)
{
    uint64_t until = tick_of(now);
    if (until - w->tick > TIMER_SLOTS && until > w->tick)
        w->tick = until - TIMER_SLOTS; /* slept over a whole turn: every slot once is enough */
    while (w->tick < until) {
        w->tick++;
        struct list due_now, *slot = &w->slots[w->tick % TIMER_SLOTS];
        list_init(&due_now);
        while (!list_empty(slot)) {
            struct list *l = slot->next;
            list_del(l);
            list_add_tail(&due_now, l);
        }
        while (!list_empty(&due_now)) {
            struct timer *t = container_of(due_now.next, struct timer, in_slot);
            list_del(&t->in_slot);
            if (t->deadline > now) {
                put(w, t);
                continue;
            }
            w->count--;
            t->due(w, t);
        }
    }
}

uint64_t timers_sleep(const struct timers *w, uint64_t now)
{
    if (!w->count)
        return UINT64_MAX;
    uint64_t next = (w->tick + 1) * TIMER_TICK_NS;
    return next > now ? next - now : 0;
}
