#include "stalls.h"

#include "log.h"

/* In the world's time: what is watched is the machine's doing. */
#define LOOK_NS (NS_PER_S * CLOCK_SPEED)

enum { LOOKS_MAX = 20 }; /* Erlang, which says more, has killed the program by then if it can */

static uint64_t turned(const struct control *c, unsigned i)
{
    return atomic_load_explicit(&c->workers[i].turned, memory_order_relaxed);
}

void stalls_look(struct control *c)
{
    if (c->time.now < c->next_look)
        return;
    c->next_look = c->time.now + LOOK_NS;
    for (unsigned i = 0; i < c->worker_count; i++) {
        uint64_t seen = turned(c, i);
        c->looks[i].count = seen == c->looks[i].seen ? c->looks[i].count + 1 : 0;
        c->looks[i].seen = seen;
        if (c->looks[i].count == LOOKS_MAX)
            log_fatal(
                "worker %u stands still for %u s; the program ends, for the next to take over", i,
                LOOKS_MAX);
    }
}

uint64_t stalls_look_due(const struct control *c)
{
    return c->worker_count ? c->next_look : UINT64_MAX;
}

uint32_t stalls_age_ms(const struct control *c)
{
    uint64_t age = 0;
    for (unsigned i = 0; i < c->worker_count; i++) {
        uint64_t seen = turned(c, i);
        age = seen < c->time.now ? MAX(age, c->time.now - seen) : age;
    }
    return (uint32_t)MIN(age / CLOCK_SPEED / NS_PER_MS, (uint64_t)UINT32_MAX);
}
