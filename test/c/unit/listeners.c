/*
 * Listeners as the control thread opens them: in every worker or in none. The kernel spreads
 * clients over the sockets of all workers, so those of one that does not listen would be lost.
 */
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "control_state.h"
#include "fake_io.h"
#include "listeners.h"
#include "post_office.h"
#include "test.h"

enum { WORKERS = 3 };

static struct control c;
static int ends[2]; /* of the pipe to Erlang: what was written is read from the first */
static struct shard *shards[WORKERS_MAX];

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void start(void)
{
    static const struct clock_time now = {.now = 1000 * NS_PER_S, .wall_s = 1700000000};
    memset(&c, 0, sizeof(c));
    must(pipe(ends) == 0 && pipe_open(&c.pipe, ends[0], ends[1]));
    c.doorbell = eventfd(0, EFD_NONBLOCK);
    c.time = now;
    ports_init(&c.ports, &(struct socket_buffers){0});
    must((c.workers = calloc(WORKERS, sizeof(*c.workers))) != NULL);
    struct shard_config sc = {
        .sessions_max = 8, .peers_max = 8, .credits = 8, .limits = &c.limits, .neighbours = shards};
    const struct worker_config wc = {.doorbell = c.doorbell};
    for (; c.worker_count < WORKERS; c.worker_count++) {
        struct worker *w = &c.workers[c.worker_count];
        sc.index = c.worker_count;
        must(worker_init(w, &sc, &wc, now) == 0);
        struct io_events events = worker_events(w);
        w->shard.io = fake_io_create(&events);
    }
}

static void turn(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        io_wait(c.workers[i].shard.io, 0);
        worker_turn(&c.workers[i]);
    }
    office_read(&c);
    listeners_answer(&c);
    listeners_end(&c);
    office_wake(&c);
    pipe_flush(&c.pipe);
}

static void stop(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        io_destroy(c.workers[i].shard.io);
        worker_destroy(&c.workers[i]);
    }
    free(c.workers);
    ports_destroy(&c.ports);
    pipe_close(&c.pipe);
    close(ends[0]);
    close(ends[1]);
    close(c.doorbell);
}

/* The next frame Erlang would get. */
static bool told(struct ctl_frame *f)
{
    static uint8_t frame[4096];
    uint8_t len[4];
    int waiting = 0;
    return ioctl(ends[0], FIONREAD, &waiting) == 0 && waiting > 0 && read(ends[0], len, 4) == 4 &&
           load32(len) <= sizeof(frame) && read(ends[0], frame, load32(len)) == (int)load32(len) &&
           ctl_decode(f, frame, load32(len)) == CTL_ERR_NONE;
}

static void ask(uint32_t id, struct addr local)
{
    struct ctl_frame f = {.code = CTL_LISTEN,
                          .ref = 7,
                          .u.listen = {.listener = id,
                                       .transport = CTL_TRANSPORT_UDP,
                                       .local = local,
                                       .realm = ctl_bytes_of((const uint8_t *)"r", 1)}};
    listeners_open(&c, &f);
    pipe_flush(&c.pipe);
}

static struct addr loopback(void)
{
    struct addr a;
    must(addr_parse(&a, test_loopback(), 0));
    return a;
}

static unsigned sockets(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        n += fake_io_sockets(c.workers[i].shard.io);
    return n;
}

static void listen_is_answered_after_the_last_worker(void)
{
    struct ctl_frame f;
    start();
    ask(1, loopback());
    CHECK(!told(&f));
    turn();
    CHECK(told(&f) && f.code == CTL_LISTENING);
    CHECK_EQ(f.ref, 7);
    CHECK_EQ(f.u.listening.status, CTL_OK);
    CHECK(f.u.listening.local.port != 0);
    CHECK_EQ(sockets(), WORKERS);
    CHECK(!told(&f));
    stop();
}

static void all_workers_listen_or_none(void)
{
    static const char why[] = "worker 1 cannot listen there: No space left on device";
    struct ctl_frame f;
    start();
    fake_io_refuse(c.workers[1].shard.io, true);
    ask(1, loopback());
    turn();
    CHECK(told(&f) && f.code == CTL_LISTENING);
    CHECK_EQ(f.u.listening.status, CTL_FAILED);
    CHECK_BYTES(f.u.listening.detail.data, f.u.listening.detail.len, why, strlen(why));
    turn();
    turn();
    CHECK_EQ(sockets(), 0);
    /* The address is free, and the number may be asked for again. */
    fake_io_refuse(c.workers[1].shard.io, false);
    ask(1, loopback());
    turn();
    CHECK(told(&f) && f.code == CTL_LISTENING);
    CHECK_EQ(f.u.listening.status, CTL_OK);
    CHECK_EQ(sockets(), WORKERS);
    stop();
}

/* Listeners that are closing keep their places until their last session ends. */
static void a_worker_without_a_place_says_so(void)
{
    static const char why[] = "worker 2 cannot listen there: No space left on device";
    struct ctl_frame f;
    start();
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        c.workers[2].shard.listeners[i].in_use = true;
        c.workers[2].shard.listeners[i].closing = true;
    }
    ask(1, loopback());
    turn();
    CHECK(told(&f) && f.code == CTL_LISTENING);
    CHECK_EQ(f.u.listening.status, CTL_FAILED);
    CHECK_BYTES(f.u.listening.detail.data, f.u.listening.detail.len, why, strlen(why));
    turn();
    turn();
    CHECK_EQ(sockets(), 0);
    stop();
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(listen_is_answered_after_the_last_worker);
    RUN(all_workers_listen_or_none);
    RUN(a_worker_without_a_place_says_so);
    return test_end("listeners");
}
