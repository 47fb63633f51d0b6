#include "workers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpus.h"
#include "kernel_path.h"
#include "log.h"
#include "post_office.h"
#include "watch.h"

/* Until STREAMS says otherwise. */
enum { CONNECTIONS_EACH = 256 };
#define QUEUE_NS (100 * NS_PER_MS)

enum { HANDSHAKES_MAX = 1024 };
#define HANDSHAKE_NS (10 * NS_PER_S)

enum { STOP_S = 2 }; /* for all workers together to end: less than Erlang waits for the program */

static void report_io(struct control *c, const char *why)
{
    struct socket_buffers granted = socket_buffers_granted(&c->buffers);
    struct ctl_frame f = {.code = CTL_IO,
                          .u.io = {.io_backend = (uint8_t)c->backend,
                                   .receive_buffer = granted.receive,
                                   .send_buffer = granted.send,
                                   .detail = ctl_bytes_of(why, strlen(why))}};
    pipe_send(&c->pipe, &f);
}

/* Clients are spread over the workers by the same key in every relay that a server starts: so an
 * allocation that is replayed is on the worker that its client's packets come to. */
static void set_spread(const uint8_t *nonce_key)
{
    uint8_t key[SHA256_LEN];
    const struct crypto_part what = {"spread", 6};
    crypto_hmac_sha256(nonce_key, STUN_NONCE_KEY_LEN, &what, 1, key);
    socket_spread_key(key);
}

/* A thread that hangs is not waited for: the kernel closes what it had. */
static void leave_without(struct control *c, const char *thread)
{
    log_error("%s does not end within %d s: the program ends without it", thread, STOP_S);
    _exit(c->pipe.exit_status);
}

static void join_workers(struct control *c, const struct timespec *until)
{
    char name[32];
    for (unsigned i = 0; i < c->worker_count; i++) {
        if (pthread_timedjoin_np(c->workers[i].thread, NULL, until) == 0)
            continue;
        snprintf(name, sizeof(name), "worker %u", i);
        leave_without(c, name);
    }
}

static void end_all(struct control *c)
{
    if (c->limits.streams.handshakes)
        handshakes_end(c->limits.streams.handshakes);
    for (unsigned i = 0; i < c->worker_count; i++) {
        atomic_store(&c->workers[i].stopping, true);
        worker_wake(&c->workers[i]);
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until); /* what pthread_timedjoin_np goes by */
    until.tv_sec += STOP_S;
    join_workers(c, &until);
    /* These wake workers. */
    if (c->limits.streams.handshakes && !handshakes_stop(c->limits.streams.handshakes, &until))
        leave_without(c, "a thread for TLS handshakes");
    c->limits.streams.handshakes = NULL;
    for (unsigned i = 0; i < c->worker_count; i++) { /* they may wake each other until they end */
        io_destroy(c->workers[i].shard.io);
        worker_destroy(&c->workers[i]);
    }
    c->worker_count = 0;
}

static bool is_valid(const struct ctl_config *m)
{
    return m->workers <= WORKERS_MAX && m->nonce_key.len == STUN_NONCE_KEY_LEN &&
           m->sessions_max > 0 && m->peers_max > 0 && m->credits > 0 &&
           m->channel_max >= CHANNEL_MIN && m->channel_max <= CHANNEL_MAX_WIDE &&
           m->io_backend <= BACKEND_EPOLL && m->offload <= OFFLOAD_TC;
}

/* What all workers take from. False without memory. */
static bool prepare(struct control *c, const struct ctl_config *m)
{
    c->buffers = (struct socket_buffers){m->receive_buffer, m->send_buffer};
    ports_init(&c->ports, &c->buffers);
    c->ports.left = &c->takeover.left;
    set_spread(m->nonce_key.data);
    ratelimit_init(&c->limits.unauthenticated, m->unauthenticated_rate, m->unauthenticated_burst);
    ratelimit_init(&c->limits.failures, m->unauthenticated_rate, m->unauthenticated_burst);
    shared_bucket_set(&c->limits.total, bandwidth(m->bytes_per_s));
    crowd_init(&c->limits.streams.crowd, CONNECTIONS_EACH, STREAMS_IDLE);
    crowd_init(&c->limits.streams.spliced, CONNECTIONS_EACH, SPLICES_MAX);
    atomic_store(&c->limits.streams.queue_ns, QUEUE_NS);
    c->limits.users_max = m->sessions_max + 1;
    c->limits.users = memory_reserve(c->limits.users_max * sizeof(*c->limits.users));
    c->workers = calloc(WORKERS_MAX, sizeof(*c->workers));
    return c->limits.users && c->workers;
}

/* All or none. 0 or -errno. */
static int start(struct control *c, const struct ctl_config *m, unsigned n)
{
    struct shard_config sc = {.sessions_max = m->sessions_max,
                              .peers_max = m->peers_max,
                              .credits = m->credits,
                              .nonce_lifetime_s = m->nonce_lifetime_s,
                              .nonce_features = m->nonce_features,
                              .channel_max = m->channel_max,
                              .rfc3489 = m->rfc3489 != 0,
                              .shortcuts = m->shortcuts != 0,
                              .offload = c->kernel_path.offload,
                              .limits = &c->limits,
                              .workers = n,
                              .neighbours = c->shards};
    const struct worker_config wc = {.doorbell = c->doorbell,
                                     .tell = office_tell,
                                     .tell_ctx = c,
                                     .backend = c->backend,
                                     .held = c->takeover.pending};
    memcpy(sc.nonce_key, m->nonce_key.data, STUN_NONCE_KEY_LEN);
    c->handshake_threads = n > 2 ? 2 : 1;
    c->limits.streams.handshakes =
        handshakes_start(c->handshake_threads, HANDSHAKES_MAX, HANDSHAKE_NS);
    int ret = c->limits.streams.handshakes ? 0 : -ENOMEM;
    for (unsigned i = 0; i < n; i++)
        c->shards[i] = &c->workers[i].shard;
    for (sc.index = 0; ret == 0 && sc.index < n; sc.index++) {
        struct worker *w = &c->workers[sc.index];
        ret = worker_init(w, &sc, &wc, c->time);
        if (ret == 0 && (ret = worker_start(w)) != 0)
            worker_destroy(w);
        c->worker_count += ret == 0;
    }
    crypto_zero(sc.nonce_key, sizeof(sc.nonce_key));
    if (ret)
        end_all(c);
    return ret;
}

/* The probe made one ring; there may not be enough memory for one for each worker. Then all of them
 * use epoll. */
static int start_on(struct control *c, const struct ctl_config *m, unsigned n,
                    char why[BACKEND_WHY_MAX])
{
    int ret = start(c, m, n);
    if (ret == 0 || c->backend != BACKEND_IO_URING)
        return ret;
    backend_explain(-ret, why);
    if (m->io_backend != BACKEND_AUTO)
        return ret;
    c->backend = BACKEND_EPOLL;
    return start(c, m, n);
}

void workers_config(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_config *m = &f->u.config;
    unsigned n = m->workers ? m->workers : cpus_usable();
    if (c->workers || !is_valid(m)) {
        pipe_reply(&c->pipe, f, CTL_REFUSED,
                   c->workers ? "CONFIG came before" : "CONFIG value out of range");
        return;
    }
    char why[BACKEND_WHY_MAX], detail[BACKEND_WHY_MAX + 64];
    int ret = backend_choose((enum backend)m->io_backend, &c->backend, why);
    if (ret == 0)
        kernel_path_open(c, m);
    if (ret == 0)
        ret = prepare(c, m) ? start_on(c, m, n, why) : -ENOMEM;
    if (ret == 0) {
        pipe_reply(&c->pipe, f, CTL_OK, "");
        report_io(c, why);
        kernel_path_tell(c);
        watch_tell(c);
        return;
    }
    if (m->io_backend == BACKEND_IO_URING && why[0])
        snprintf(detail, sizeof(detail), "io_uring is refused (%s)", why);
    else
        snprintf(detail, sizeof(detail), "%s", strerror(-ret));
    pipe_reply(&c->pipe, f, CTL_FAILED, detail);
}

void workers_tune(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    const struct ctl_tune *m = &f->u.tune;
    if (!c->workers || m->channel_max < CHANNEL_MIN || m->channel_max > CHANNEL_MAX_WIDE) {
        pipe_reply(&c->pipe, f, CTL_REFUSED,
                   c->workers ? "TUNE value out of range" : "no CONFIG yet");
        return;
    }
    struct socket_buffers buffers = {m->receive_buffer, m->send_buffer};
    bool other = !socket_buffers_equal(&buffers, &c->buffers);
    c->buffers = buffers;
    ports_buffers(&c->ports, &buffers);
    ratelimit_set(&c->limits.unauthenticated, m->unauthenticated_rate, m->unauthenticated_burst);
    ratelimit_set(&c->limits.failures, m->unauthenticated_rate, m->unauthenticated_burst);
    office_mail_all(c, MAIL_FRAME, frame, len);
    pipe_reply(&c->pipe, f, CTL_OK, "");
    if (other)
        report_io(c, "");
}

/* Grants of other epochs are void at once, in all workers. What else the frame says each worker
 * reads when it gets it. */
void workers_grants(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    const struct ctl_grants *m = &f->u.grants;
    if (!c->workers || m->software.len > CTL_SOFTWARE_BYTES_MAX) {
        pipe_reply(&c->pipe, f, CTL_REFUSED,
                   c->workers ? "GRANTS value out of range" : "no CONFIG yet");
        return;
    }
    atomic_store(&c->limits.grants_epoch, m->epoch);
    office_mail_all(c, MAIL_FRAME, frame, len);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}

/* Each worker opens its ring when it gets the frame; here is seen whether it can. */
void workers_journal(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    const struct ctl_bytes *path = &f->u.journal.path;
    char name[JOURNAL_PATH_MAX] = {0};
    struct journal j = {0};
    if (!c->workers || path->len >= sizeof(name)) {
        pipe_reply(&c->pipe, f, CTL_REFUSED, c->workers ? "path too long" : "no CONFIG yet");
        return;
    }
    memcpy(name, path->data, path->len);
    int ret = journal_open(&j, name, c->worker_count - 1);
    journal_close(&j);
    if (ret == 0)
        office_mail_all(c, MAIL_FRAME, frame, len);
    pipe_reply(&c->pipe, f, ret ? CTL_FAILED : CTL_OK, ret ? strerror(-ret) : "");
}

void workers_streams(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_streams *m = &f->u.streams;
    if (!c->workers || m->queue_ms == 0 || m->per_source == 0) {
        pipe_reply(&c->pipe, f, CTL_REFUSED,
                   c->workers ? "STREAMS value out of range" : "no CONFIG yet");
        return;
    }
    atomic_store(&c->limits.streams.queue_ns, m->queue_ms * NS_PER_MS);
    crowd_set(&c->limits.streams.crowd, m->per_source);
    crowd_set(&c->limits.streams.spliced, m->per_source);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}

void workers_bucket(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_bucket *m = &f->u.bucket;
    if (m->bucket == 0)
        shared_bucket_set(&c->limits.total, bandwidth(m->bytes_per_s));
    else if (m->bucket < c->limits.users_max)
        shared_bucket_set(&c->limits.users[m->bucket], bandwidth(m->bytes_per_s));
}

void workers_report(struct control *c)
{
    report_io(c, "");
}

void workers_stop(struct control *c)
{
    end_all(c);
    kernel_path_close(c);
    free(c->workers);
    memory_release(c->limits.users, c->limits.users_max * sizeof(*c->limits.users));
}
