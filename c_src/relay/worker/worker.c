#include "worker.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "alloc.h"
#include "conn.h"
#include "count.h"
#include "granted.h"
#include "handing.h"
#include "inbox.h"
#include "judge.h"
#include "listen.h"
#include "offloading.h"
#include "peer_tcp.h"
#include "post.h"
#include "shake.h"

/* With nothing to sweep there is nothing to wake for but to show that it can (stalls.c). */
#define SLEEP_MAX_NS (NS_PER_S * CLOCK_SPEED)

int worker_init(struct worker *w, const struct shard_config *shard,
                const struct worker_config *config, struct clock_time start)
{
    memset(w, 0, sizeof(*w));
    w->config = *config;
    atomic_init(&w->turned, start.now);
    return shard_init(&w->shard, shard, start);
}

void worker_destroy(struct worker *w)
{
    inbox_discard(&w->shard);
    shard_destroy(&w->shard);
}

/* -------------------------------------------------------------------------------------- events */

static void on_trouble(void *ctx, enum io_trouble what, int err)
{
    static const enum counter reasons[] = {[IO_NO_BUFFERS] = CTR_no_buffers,
                                           [IO_RECEIVE] = CTR_receive_failed,
                                           [IO_SEND_UNKNOWN] = CTR_send_failed};
    (void)err;
    count(ctx, reasons[what]);
}

static void on_lost(void *ctx, struct io_socket *s, uint32_t n)
{
    (void)s;
    count_n(ctx, CTR_receive_queue_full, n);
}

struct io_events worker_events(struct worker *w)
{
    return (struct io_events){&w->shard, on_trouble, on_lost};
}

/* -------------------------------------------------------------------------------------- a turn */

/* What the io counts by itself. */
static void publish_io(struct shard *sh)
{
    const struct io_counts *n = &sh->io->counts;
    count_set(sh, CTR_gso_runs, n->gso_runs);
    count_set(sh, CTR_gso_datagrams, n->gso_datagrams);
    count_set(sh, CTR_gso_refused, n->gso_refused);
    count_set(sh, CTR_gro_runs, n->gro_runs);
    count_set(sh, CTR_gro_datagrams, n->gro_datagrams);
}

static void publish(struct worker *w, bool read_all)
{
    const struct sessions *t = &w->shard.sessions;
    publish_io(&w->shard);
    atomic_store_explicit(&w->turned, w->shard.time.now, memory_order_relaxed);
    atomic_store(&w->starved,
                 !read_all || !list_empty(&t->gone) || !list_empty(&w->shard.tcp.news));
    atomic_store_explicit(&w->sessions_live, t->session_slab.live, memory_order_relaxed);
    atomic_store_explicit(&w->peers_live, t->permission_slab.live, memory_order_relaxed);
    atomic_store_explicit(&w->connections_live, w->shard.streams.live, memory_order_relaxed);
    atomic_store_explicit(&w->associations_live, w->shard.associations.slab.live,
                          memory_order_relaxed);
    atomic_store_explicit(&w->cells_live, w->shard.streams.cells.live, memory_order_relaxed);
    atomic_store_explicit(&w->requests_live, w->shard.pending.slab.live, memory_order_relaxed);
}

/* Something was posted: Erlang is told at once where it waits, else with the next that does. */
static void ring(struct worker *w)
{
    struct shard *sh = &w->shard;
    bool now = sh->rang || (sh->ring_at && sh->ring_at <= sh->time.now);
    if (!now && !sh->calm)
        return;
    uint64_t one = 1;
    sh->rang = sh->calm = false;
    if (now)
        sh->ring_at = 0;
    if (w->config.tell && w->config.tell(w->config.tell_ctx, sh->config.index, now))
        return;
    ssize_t ignored = write(w->config.doorbell, &one, sizeof(one));
    (void)ignored;
}

/* Answers within grants leave once Erlang has been told. */
static void pay_owed(struct worker *w)
{
    struct shard *sh = &w->shard;
    if (LIKELY(!sh->owed.count))
        return;
    if (granted_pay(sh, atomic_load(&w->told)))
        conn_flush_all(sh);
    if (!sh->owed.count)
        return;
    atomic_store(&w->owing, true); /* and then look again: it may have grown meanwhile */
    if (granted_pay(sh, atomic_load(&w->told)))
        conn_flush_all(sh);
}

void worker_turn(struct worker *w)
{
    struct shard *sh = &w->shard;
    io_dispatch(sh->io);
    conn_arrivals(sh);
    shake_arrivals(sh);
    bool read_all = inbox_read(sh);
    timers_run(&sh->sessions.timers, sh->time.now);
    alloc_end_what_ended(sh);
    conn_flush_all(sh);
    judge_sweep(sh);
    if (offloading_is_on(sh))
        offloading_turn(sh);
    if (UNLIKELY(!list_empty(&sh->tcp.news)))
        peer_tcp_report(sh);
    alloc_report_gone(sh);
    listen_close(sh);
    if (UNLIKELY(sh->holding))
        handing_look(sh);
    publish(w, read_all);
    post_wake(sh);
    ring(w);
    pay_owed(w);
}

/* ---------------------------------------------------------------------------------- the thread */

struct start {
    struct worker *worker;
    sem_t up;
    int result;
};

uint64_t worker_sleep_ns(const struct worker *w)
{
    const struct shard *sh = &w->shard;
    if (sh->sweep_left)
        return 0;
    uint64_t sleep = MIN(timers_sleep(&sh->sessions.timers, sh->time.now), SLEEP_MAX_NS);
    if (offloading_is_on(sh))
        sleep = MIN(sleep, offloading_sleep(sh));
    if (!sh->ring_at)
        return sleep;
    return sh->ring_at > sh->time.now ? MIN(sleep, sh->ring_at - sh->time.now) : 0;
}

static void *run(void *arg)
{
    struct start *start = arg;
    struct worker *w = start->worker;
    struct shard *sh = &w->shard;
    struct io_events events = worker_events(w);
    uint32_t sockets_max = 2 * sh->config.sessions_max + LISTENERS_MAX;
    prctl(PR_SET_TIMERSLACK, 1L, 0L, 0L, 0L); /* of this thread: a short sleep is to be short */
    int ret = backend_create(w->config.backend, &sh->io, &events, sockets_max);
    if (ret == 0 && w->config.held)
        io_hold(sh->io);
    start->result = ret;
    sem_post(&start->up); /* start is not ours any more */
    if (ret)
        return NULL;
    while (!atomic_load(&w->stopping)) {
        io_wait(sh->io, worker_sleep_ns(w));
        sh->time = clock_read();
        worker_turn(w);
    }
    io_stop(sh->io);
    return NULL; /* the io is the control thread's to end: it may be waking it just now */
}

int worker_start(struct worker *w)
{
    struct start start = {.worker = w};
    sem_init(&start.up, 0, 0);
    int ret = -pthread_create(&w->thread, NULL, run, &start);
    if (ret == 0) {
        while (sem_wait(&start.up) != 0 && errno == EINTR)
            ;
        ret = start.result;
        if (ret)
            pthread_join(w->thread, NULL);
    }
    sem_destroy(&start.up);
    return ret;
}
