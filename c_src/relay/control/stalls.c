#include "stalls.h"

#include "log.h"

/* By the machine's time, also where the relay's clock runs faster: it is the machine that stalls.
 */
#define LOOK_NS (NS_PER_S * CLOCK_SPEED)

enum { LOOKS_MAX = 20 }; /* later than Erlang, which kills the program and logs more about it */

static uint64_t turned(const struct control *c, unsigned i)
{
    return atomic_load_explicit(&c->workers[i].turned, memory_order_relaxed);
}

/* When the TLS handshake thread whose last turn is longest ago had it. */
static uint64_t handshakes(const struct control *c)
{
    struct handshakes *h = c->limits.streams.handshakes;
    return h ? handshakes_turned(h) : c->time.now;
}

#define STILL " stands still for %u s; the program ends, for the next to take over"

static bool stands_still(struct look *l, uint64_t seen)
{
    l->count = seen == l->seen ? l->count + 1 : 0;
    l->seen = seen;
    return l->count == LOOKS_MAX;
}

static uint64_t age_of(const struct control *c, uint64_t seen)
{
    return seen < c->time.now ? c->time.now - seen : 0;
}

void stalls_look(struct control *c)
{
    if (c->time.now < c->next_look)
        return;
    c->next_look = c->time.now + LOOK_NS;
    for (unsigned i = 0; i < c->worker_count; i++)
        if (stands_still(&c->looks[i], turned(c, i)))
            log_fatal("worker %u" STILL, i, LOOKS_MAX);
    if (stands_still(&c->handshakes_look, handshakes(c)))
        log_fatal("a thread for TLS handshakes" STILL, LOOKS_MAX);
}

uint64_t stalls_look_due(const struct control *c)
{
    return c->worker_count ? c->next_look : UINT64_MAX;
}

uint32_t stalls_age_ms(const struct control *c)
{
    uint64_t age = age_of(c, handshakes(c));
    for (unsigned i = 0; i < c->worker_count; i++)
        age = MAX(age, age_of(c, turned(c, i)));
    return (uint32_t)MIN(age / CLOCK_SPEED / NS_PER_MS, (uint64_t)UINT32_MAX);
}
