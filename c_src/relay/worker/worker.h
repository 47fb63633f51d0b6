/*
 * A worker: one thread around one shard. It waits, handles what its sockets and its mailbox have,
 * and wakes the control thread when there is something for Erlang. It knows no message.
 */
#ifndef MEERKAT_WORKER_H
#define MEERKAT_WORKER_H

#include <pthread.h>

#include "backend.h"
#include "shard.h"

struct worker_config {
    int doorbell; /* eventfd of the control thread */
    /* Tells Erlang what worker `index` has posted without that thread, if it can; NULL: it never
     * can. */
    bool (*tell)(void *ctx, unsigned index, bool now);
    void *tell_ctx;
    bool held; /* receives no datagram before MAIL_GO_ON */
    enum backend backend;
};

struct worker {
    struct shard shard;
    struct worker_config config;
    _Atomic bool starved;    /* work waits for room on the way out: wake when there is some */
    _Atomic uint32_t told;   /* mailbox_consumed of the way out, when all of it was in the pipe */
    _Atomic bool owing;      /* answers wait for `told`: wake when it has grown */
    _Atomic bool stopping;   /* set by the control thread, then a wake */
    _Atomic uint64_t turned; /* when it did last: at least once a second */
    _Atomic uint32_t connections_live, associations_live;
    _Atomic uint64_t cells_live;
    _Atomic uint32_t sessions_live, peers_live, requests_live;
    pthread_t thread;
};

/* Everything but the io and the thread. 0 or -errno. */
int worker_init(struct worker *w, const struct shard_config *shard,
                const struct worker_config *config, struct clock_time start);
void worker_destroy(struct worker *w);

/* Starts the thread with an io of its own; returns once that stands. 0 or -errno. Who joins
 * the thread ends the io. */
int worker_start(struct worker *w);

/* What an io must call. */
struct io_events worker_events(struct worker *w);

/* One turn but for the waiting: mail, packets, sweeping, doorbell. */
void worker_turn(struct worker *w);

/* How long it may wait before its next turn, should nothing come. */
uint64_t worker_sleep_ns(const struct worker *w);

/* Control thread: rings the worker. */
static inline void worker_wake(struct worker *w)
{
    io_wake(w->shard.io);
}

#endif
