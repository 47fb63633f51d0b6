#include "worker.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "input.h"
#include "log.h"

/* With nothing to sweep there is nothing to wake for; this is only a bound on surprises. */
#define SLEEP_MAX_NS (60 * NS_PER_S)
/* So long a frame without haste waits for others. */
#define CALM_NS NS_PER_MS

int worker_init(struct worker *w, const struct worker_config *config, struct clock_time start)
{
    memset(w, 0, sizeof(*w));
    w->config = *config;
    w->time = start;
    list_init(&w->pending);
    if (!sessions_init(&w->sessions, config->sessions_max, config->peers_max, start.now) ||
        !slab_init(&w->pending_slab, sizeof(struct pending), config->credits) ||
        !mailbox_init(&w->in, MAIL_SIZE) || !mailbox_init(&w->out, MAIL_SIZE)) {
        worker_destroy(w);
        return -ENOMEM;
    }
    return 0;
}

/* A policy that lies in the box is nobody's yet; descriptors end with the program. */
static void discard_mail(struct worker *w)
{
    const uint8_t *record;
    uint32_t len;
    while (w->in.buf && (record = mailbox_peek(&w->in, &len))) {
        if (record[0] == MAIL_POLICY) {
            struct policy *p;
            memcpy(&p, record + 1, sizeof(p));
            policy_free(p);
        }
        mailbox_consume(&w->in);
    }
}

void worker_destroy(struct worker *w)
{
    discard_mail(w);
    sessions_destroy(&w->sessions);
    slab_destroy(&w->pending_slab);
    mailbox_destroy(&w->in);
    mailbox_destroy(&w->out);
    policy_free(w->policy);
    w->policy = NULL;
    crypto_zero(&w->config.nonce_key, sizeof(w->config.nonce_key));
}

void worker_random(struct worker *w, void *out, size_t len)
{
    if (w->random_left < len) {
        crypto_random(w->random, sizeof(w->random));
        w->random_left = sizeof(w->random);
    }
    w->random_left -= len;
    memcpy(out, w->random + w->random_left, len);
}

bool worker_post(struct worker *w, const struct ctl_frame *f, bool request)
{
    uint32_t max = 1 + CTL_PLAIN_MAX + (request ? REQUEST_MAX : 256);
    if (request && mailbox_room(&w->out) < max + MAIL_RESERVE)
        return false;
    uint8_t *record = mailbox_reserve(&w->out, max);
    if (!record)
        return false;
    record[0] = MAIL_FRAME;
    size_t len = ctl_encode(f, record + 1, max - 1);
    mailbox_commit(&w->out, record, (uint32_t)(1 + len));
    w->rang = true;
    return true;
}

bool worker_calm(struct worker *w)
{
    bool rang = w->rang;
    w->rang = false;
    return rang;
}

void worker_haste(struct worker *w, bool rang)
{
    if (w->rang && !w->ring_at)
        w->ring_at = w->time.now + CALM_NS;
    w->calm = w->calm || w->rang;
    w->rang = rang;
}

bool worker_mail(struct worker *w, enum mail kind, const void *data, size_t len, const void *more,
                 size_t more_len, uint32_t reserve)
{
    uint32_t need = (uint32_t)(1 + len + more_len);
    uint8_t *record =
        mailbox_room(&w->out) < need + reserve ? NULL : mailbox_reserve(&w->out, need);
    if (!record)
        return false;
    record[0] = (uint8_t)kind;
    memcpy(record + 1, data, len);
    if (more_len)
        memcpy(record + 1 + len, more, more_len);
    mailbox_commit(&w->out, record, need);
    w->rang = true;
    return true;
}

struct listener *worker_listener(struct worker *w, uint32_t id)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (w->listeners[i].in_use && w->listeners[i].id == id)
            return &w->listeners[i];
    return NULL;
}

/* -------------------------------------------------------------------------------------- events */

static void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
{
    struct worker *w = ctx;
    if (s->kind == SOCKET_RELAYED) {
        forward_peer(w, container_of(s, struct relayed, io), p);
    } else {
        struct listener *l = container_of(s, struct listener, io);
        l->transport->input(w, l, p);
    }
}

static void on_icmp(void *ctx, struct io_socket *s, const struct io_icmp *icmp)
{
    if (s->kind == SOCKET_RELAYED)
        forward_icmp(ctx, container_of(s, struct relayed, io), icmp);
}

static void on_closed(void *ctx, struct io_socket *s)
{
    struct worker *w = ctx;
    if (s->kind == SOCKET_RELAYED)
        command_socket_closed(w, container_of(s, struct relayed, io));
    else
        container_of(s, struct listener, io)->in_use = false;
}

static void on_error(void *ctx, struct io_socket *s, int err)
{
    (void)s;
    count(ctx, err == ENOBUFS ? CTR_no_buffers : CTR_send_failed);
}

static void on_lost(void *ctx, struct io_socket *s, uint32_t n)
{
    (void)s;
    count_n(ctx, CTR_receive_queue_full, n);
}

struct io_events worker_events(struct worker *w)
{
    return (struct io_events){w, on_packet, on_icmp, on_closed, on_error, on_lost};
}

static void on_due(void *ctx, struct timer *t)
{
    struct worker *w = ctx;
    switch (t->kind) {
    case TIMER_SESSION:
        command_expire(w, container_of(t, struct session, timer));
        break;
    case TIMER_PERMISSION:
        permission_remove(&w->sessions, container_of(t, struct permission, timer));
        break;
    case TIMER_CHANNEL:
        channel_remove(&w->sessions, container_of(t, struct channel, timer));
        break;
    }
}

/* ---------------------------------------------------------------------------------------- mail */

static void change_listener(struct listener *l, const struct mail_listen *m)
{
    l->other = m->other;
    l->realm_len = m->realm_len;
    memcpy(l->realm, m->realm, m->realm_len);
}

static void add_listener(struct worker *w, const struct mail_listen *m)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct listener *l = &w->listeners[i];
        if (l->in_use)
            continue;
        *l = (struct listener){
            .id = m->id,
            .open = true,
            .in_use = true,
            .transport = &transport_udp,
            .local = m->local,
            .io = {.fd = m->fd, .kind = SOCKET_LISTENER, .wants_dest = addr_is_any(&m->local)},
        };
        change_listener(l, m);
        int ret = io_add(w->io, &l->io);
        if (ret == 0)
            return;
        l->in_use = false;
        log_error("worker %u cannot listen: %s", w->config.index, strerror(-ret));
        break;
    }
    close(m->fd);
}

/* False when the mail must wait. */
static bool open_mail(struct worker *w, const uint8_t *record, uint32_t len)
{
    switch ((enum mail)record[0]) {
    case MAIL_FRAME:
        return command_frame(w, record + 1, len - 1);
    case MAIL_ALLOC: {
        struct mail_alloc m;
        memcpy(&m, record + 1, sizeof(m));
        return command_alloc(w, &m);
    }
    case MAIL_LISTEN: {
        struct mail_listen m;
        memcpy(&m, record + 1, sizeof(m));
        struct listener *l = m.fd < 0 ? worker_listener(w, m.id) : NULL;
        if (m.fd >= 0)
            add_listener(w, &m);
        else if (l)
            change_listener(l, &m);
        return true;
    }
    case MAIL_POLICY: {
        struct policy *p;
        memcpy(&p, record + 1, sizeof(p));
        command_policy(w, p);
        return true;
    }
    case MAIL_MOVE: {
        struct mail_move m;
        memcpy(&m, record + 1, sizeof(m));
        return move_session(w, &m);
    }
    case MAIL_ROAM: {
        struct mail_roam m;
        memcpy(&m, record + 1, sizeof(m));
        move_roamer(w, &m);
        return true;
    }
    case MAIL_CARRY: {
        struct mail_carry m;
        memcpy(&m, record + 1, sizeof(m));
        move_carried(w, &m, record + 1 + sizeof(m));
        return true;
    }
    case MAIL_OVER: {
        uint32_t id;
        memcpy(&id, record + 1, sizeof(id));
        struct listener *l = worker_listener(w, id);
        if (l)
            l->over = true;
        return true;
    }
    case MAIL_PORT_FREE:
    case MAIL_IDLE:
        break;
    }
    return true;
}

/* False when some is left, for want of room on the way out. */
static bool read_mail(struct worker *w)
{
    uint32_t len;
    const uint8_t *record;
    while ((record = mailbox_peek(&w->in, &len))) {
        if (!open_mail(w, record, len))
            return false;
        mailbox_consume(&w->in);
    }
    return true;
}

/* A listener no longer wanted goes when nobody answers through it any more, in any worker: the
 * kernel would send those of the others astray if one socket of the group were missing. */
static void close_listeners(struct worker *w)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct listener *l = &w->listeners[i];
        if (!l->in_use || l->open || l->closing || l->sessions || request_pending_on(w, l))
            continue;
        if (l->over) {
            l->closing = true;
            io_remove(w->io, &l->io);
        } else if (!l->idle) {
            l->idle = worker_mail(w, MAIL_IDLE, &l->id, sizeof(l->id), NULL, 0, 0);
        }
    }
}

/* ---------------------------------------------------------------------------------------- loop */

static void publish(struct worker *w, enum counter c, uint64_t value)
{
    atomic_store_explicit(&w->counters[c], value, memory_order_relaxed);
}

/* What the io counts by itself. */
static void publish_io(struct worker *w)
{
    const struct io_counts *n = &w->io->counts;
    publish(w, CTR_gso_runs, n->gso_runs);
    publish(w, CTR_gso_datagrams, n->gso_datagrams);
    publish(w, CTR_gso_refused, n->gso_refused);
    publish(w, CTR_gro_runs, n->gro_runs);
    publish(w, CTR_gro_datagrams, n->gro_datagrams);
}

static void ring(struct worker *w, bool now)
{
    uint64_t one = 1;
    w->rang = w->calm = false;
    if (now)
        w->ring_at = 0;
    if (w->config.tell && w->config.tell(w->config.tell_ctx, w, now))
        return;
    ssize_t ignored = write(w->config.doorbell, &one, sizeof(one));
    (void)ignored;
}

void worker_turn(struct worker *w)
{
    io_dispatch(w->io);
    bool read_all = read_mail(w);
    timers_run(&w->sessions.timers, w->time.now, on_due, w);
    command_report_gone(w);
    close_listeners(w);
    publish_io(w);
    atomic_store(&w->starved, !read_all || !list_empty(&w->sessions.gone));
    atomic_store_explicit(&w->sessions_live, w->sessions.session_slab.live, memory_order_relaxed);
    atomic_store_explicit(&w->peers_live, w->sessions.permission_slab.live, memory_order_relaxed);
    atomic_store_explicit(&w->requests_live, w->pending_slab.live, memory_order_relaxed);
    bool now = w->rang || (w->ring_at && w->ring_at <= w->time.now);
    if (now || w->calm)
        ring(w, now);
}

struct start {
    struct worker *worker;
    sem_t up;
    int result;
};

static uint64_t sleep_ns(const struct worker *w)
{
    uint64_t sleep = MIN(timers_sleep(&w->sessions.timers, w->time.now), SLEEP_MAX_NS);
    if (!w->ring_at)
        return sleep;
    return w->ring_at > w->time.now ? MIN(sleep, w->ring_at - w->time.now) : 0;
}

static void *run(void *arg)
{
    struct start *start = arg;
    struct worker *w = start->worker;
    struct io_events events = worker_events(w);
    uint32_t sockets_max = 2 * w->config.sessions_max + LISTENERS_MAX;
    int ret = backend_create(w->config.backend, &w->io, &events, sockets_max);
    start->result = ret;
    sem_post(&start->up); /* start is not ours any more */
    if (ret)
        return NULL;
    while (!atomic_load(&w->stopping)) {
        io_wait(w->io, sleep_ns(w));
        w->time = clock_read();
        worker_turn(w);
    }
    io_stop(w->io);
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
