/*
 * Open-loop traffic through a fleet's allocations: packets leave by the clock, whatever comes of
 * them; each carries its flow, sequence number and the time it was due, and whoever receives it
 * counts. Knows of servers only what the fleet does.
 */
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include "batch.h"
#include "fleet.h"
#include "procfs.h"

/* What arrived of a flow in one direction: sequence numbers below `next`, of the last 64 each by a
 * bit. */
struct flow_seen {
    uint32_t sent, next;
    uint64_t window;
};

struct flow {
    uint32_t client, channel;
    struct flow_seen way[2]; /* up and down */
};

struct traffic_result {
    double rate, seconds; /* asked for, measured */
    uint64_t offered, delivered, duplicated, reordered, damaged;
    uint64_t late;    /* sent over a millisecond after they were due */
    uint64_t skipped; /* not sent: the generator could not, or the kernel would not */
    uint64_t relayed; /* packets that came through while the CPU was watched */
    struct procfs_cpu cpu;
    bool processes_ended;     /* not all of them are in it */
    struct histogram latency; /* from when it was due to when it was received; echo: and back */
};

struct traffic {
    struct fleet *fleet;
    const struct options *o;
    struct flow *flows;
    unsigned count;
    struct batch out[2]; /* from clients, from peers */

    uint16_t run; /* packets of another run do not count */
    uint64_t tick;
    double interval; /* ns from one burst to the next */
    double allowed;  /* ticks that may leave now, however many are due */
    uint64_t allowed_at;
    uint64_t max_late; /* what is due longer is skipped */
    uint64_t start, measure_from, measure_to;
    uint64_t arrived, last_arrival; /* of this run, measured or not */
    struct traffic_result *result;

    unsigned kept; /* clients whose allocation was prolonged in this round */
    uint64_t keep_from;
};

/* Flows through those of the fleet's clients whose last plan came to a good end; 0 or -1, stderr
 * says why. */
int traffic_open(struct traffic *t, struct fleet *f);
void traffic_close(struct traffic *t);

/* One run: warmup and duration in seconds. Ends early when interrupted; the result says how much
 * was measured. */
void traffic_run(struct traffic *t, double rate, double warmup, double duration,
                 struct traffic_result *result);

/* Percent of what was offered. */
double traffic_loss(const struct traffic_result *r);

#endif
