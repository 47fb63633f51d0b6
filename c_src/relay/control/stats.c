#include "stats.h"

#include "stalls.h"

/* u32 pool, u32 ports free, for each; how many bytes that takes. */
static size_t pools_free(const struct ports *p, uint8_t out[POOLS_MAX * 8])
{
    for (uint32_t i = 0; i < p->pool_count; i++) {
        store32(out + i * 8, p->pools[i]->id);
        store32(out + i * 8 + 4, pool_free(p->pools[i]));
    }
    return p->pool_count * 8;
}

static void sum_streams(struct control *c, struct ctl_stats_reply *r)
{
    uint64_t age = 0;
    for (unsigned w = 0; w < c->worker_count; w++) {
        struct worker *worker = &c->workers[w];
        r->connections += atomic_load_explicit(&worker->connections_live, memory_order_relaxed);
        r->dtls_sessions += atomic_load_explicit(&worker->associations_live, memory_order_relaxed);
        r->queued += atomic_load_explicit(&worker->cells_live, memory_order_relaxed) * CELL_SIZE;
        age = MAX(
            age, atomic_exchange_explicit(&worker->shard.streams.age_max, 0, memory_order_relaxed));
    }
    r->queue_age_us = (uint32_t)(age / 1000);
    if (c->limits.streams.handshakes)
        r->handshakes = handshakes_under_way(c->limits.streams.handshakes);
}

/* A worker may take back what it has counted as sent (unsent.c), so a sum may be less than what was
 * told before. Then the former value is told again, until the sum has reached it: a counter that
 * goes down means a new start to whoever reads it. */
static void sum_counters(struct control *c, uint8_t out[COUNTER_COUNT * 8])
{
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        uint64_t sum = 0;
        for (unsigned w = 0; w < c->worker_count; w++)
            sum += atomic_load_explicit(&c->workers[w].shard.counters[i], memory_order_relaxed);
        c->told[i] = MAX(c->told[i], sum);
        store64(out + i * 8, c->told[i]);
    }
}

void stats(struct control *c, const struct ctl_frame *f)
{
    uint8_t counters[COUNTER_COUNT * 8];
    uint8_t pools[POOLS_MAX * 8];
    struct ctl_frame out = {.code = CTL_STATS_REPLY, .ref = f->ref};
    struct ctl_stats_reply *r = &out.u.stats_reply;
    sum_counters(c, counters);
    for (unsigned w = 0; w < c->worker_count; w++) {
        r->sessions += atomic_load_explicit(&c->workers[w].sessions_live, memory_order_relaxed);
        r->peers += atomic_load_explicit(&c->workers[w].peers_live, memory_order_relaxed);
        r->requests += atomic_load_explicit(&c->workers[w].requests_live, memory_order_relaxed);
        r->mail_in += mailbox_waiting(&c->workers[w].shard.in);
        r->mail_out += mailbox_waiting(&c->workers[w].shard.out);
    }
    sum_streams(c, r);
    r->workers = (uint16_t)c->worker_count;
    r->io_backend = (uint8_t)c->backend;
    r->mail_out += (uint32_t)pipe_waiting(&c->pipe);
    r->stalled_ms = stalls_age_ms(c);
    r->ports_free = ports_free(&c->ports);
    r->pools = ctl_bytes_of(pools, pools_free(&c->ports, pools));
    r->counters = ctl_bytes_of(counters, sizeof(counters));
    pipe_send(&c->pipe, &out);
}
