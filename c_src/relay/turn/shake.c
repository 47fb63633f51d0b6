#include "shake.h"

#include <stdlib.h>

#include "assoc.h"
#include "count.h"
#include "dtls_out.h"
#include "shaken.h"

/* A handshake may take so long: OpenSSL says again what was lost after 1, 3, 7 and 15 s. */
#define SHAKE_NS (20 * NS_PER_S)

static struct handshakes *threads(const struct shard *sh)
{
    return sh->config.limits->streams.handshakes;
}

/* To a thread, with what waits, or with nothing: then it reminds. */
static void hand_over(struct shard *sh, struct association *a)
{
    struct step_datagram *d;
    while ((d = step_queue_take(&a->waiting)))
        step_queue_put(&a->step->in, d);
    a->stepping = true;
    handshakes_step(threads(sh), a->step);
}

static void end(struct shard *sh, struct association *a)
{
    handshakes_leave(threads(sh));
    assoc_close(sh, a);
}

static void fail(struct shard *sh, struct association *a, enum handshake_end how)
{
    shaken_failed(sh, how, a->step->tls);
    end(sh, a);
}

bool shake_give_up(struct shard *sh, struct association *a)
{
    if (a->stepping)
        return false;
    fail(sh, a, HANDSHAKE_GONE);
    return true;
}

/* ------------------------------------------------------------------------------------ its time */

static uint64_t deadline_of(const struct association *a)
{
    return a->heard + SHAKE_NS;
}

static void on_due(struct timers *t, struct timer *timer)
{
    struct sessions *sessions = container_of(t, struct sessions, timers);
    struct shard *sh = container_of(sessions, struct shard, sessions);
    struct association *a = container_of(timer, struct association, timer);
    if (a->stepping)
        return; /* the timer is set when that is back */
    if (sh->time.now >= deadline_of(a))
        fail(sh, a, HANDSHAKE_LATE);
    else
        hand_over(sh, a);
}

static void set_timer(struct shard *sh, struct association *a, uint64_t wait_ns)
{
    uint64_t left = deadline_of(a) > sh->time.now ? deadline_of(a) - sh->time.now : 0;
    uint64_t wait = wait_ns < left / CLOCK_SPEED ? wait_ns * CLOCK_SPEED : left;
    timer_set(&sh->sessions.timers, &a->timer, sh->time.now + wait);
}

/* -------------------------------------------------------------------------------- between steps */

/* What came before it was known here that the handshake is done. False when it is over again. */
static bool read_rest(struct shard *sh, struct association *a, struct step_queue *q)
{
    struct step_datagram *d;
    while ((d = step_queue_take(q))) {
        uint8_t *data = memcpy(io_scratch(sh->io, d->len), d->data, d->len);
        bool stands = assoc_read(sh, a, data, d->len, d->len);
        free(d);
        if (!stands)
            return false;
    }
    return true;
}

static void done(struct shard *sh, struct association *a)
{
    struct step *s = a->step;
    handshakes_leave(threads(sh));
    count(sh, CTR_handshakes);
    a->step = NULL;
    assoc_open(sh, a, s->tls);
    s->tls = NULL;
    /* Records that came before the handshake was done may lie in the session. */
    if (assoc_read(sh, a, io_scratch(sh->io, DTLS_PLAIN_MAX), 0, DTLS_PLAIN_MAX) &&
        read_rest(sh, a, &s->in))
        read_rest(sh, a, &a->waiting);
    step_clear(s);
    free(s);
}

static void come_back(struct shard *sh, struct association *a)
{
    struct step *s = a->step;
    a->stepping = false;
    dtls_out_all(sh, a->below, &a->flow, s->out, s->out_len);
    free(s->out);
    s->out = NULL;
    if (s->result == TLS_OK) {
        done(sh, a);
    } else if (s->result == TLS_CLOSED) {
        fail(sh, a, HANDSHAKE_GONE);
    } else if (s->result == TLS_FAILED) {
        fail(sh, a, HANDSHAKE_FAILED);
    } else {
        set_timer(sh, a, s->wait_ns);
        if (a->waiting.first)
            hand_over(sh, a);
    }
}

void shake_arrivals(struct shard *sh)
{
    struct post *p = posts_take(&sh->streams.home.stepped);
    while (p) {
        struct step *s = container_of(p, struct step, post);
        p = p->next;
        come_back(sh, s->owner);
    }
}

void shake_feed(struct shard *sh, struct association *a, const uint8_t *data, size_t len,
                bool sealed)
{
    if ((sealed && a->sealed == STEP_SEALED) || !step_queue_add(&a->waiting, data, len)) {
        count(sh, CTR_dtls_waiting);
        return;
    }
    a->sealed += sealed;
    if (!a->stepping)
        hand_over(sh, a);
}

/* ------------------------------------------------------------------------------------ the start */

static struct step *make_step(struct shard *sh, struct association *a, unsigned thread)
{
    struct step *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    *s = (struct step){.home = &sh->streams.home,
                       .owner = a,
                       .thread = thread,
                       .store = tls_store_hold(a->end.listener->certs),
                       .wall_s = sh->time.wall_s};
    step_queue_init(&s->in);
    return s;
}

/* The first record by itself: what is behind it in the datagram comes as the next one. */
static bool start(struct shard *sh, struct association *a, unsigned thread,
                  const struct dtls_hello *h, const uint8_t *data, size_t len)
{
    memcpy(a->random, h->random, DTLS_RANDOM_LEN);
    a->timer.due = on_due;
    a->step = make_step(sh, a, thread);
    if (!a->step || !step_queue_add(&a->waiting, data, h->size))
        return false;
    if (len > h->size)
        step_queue_add(&a->waiting, data + h->size, len - h->size);
    hand_over(sh, a);
    return true;
}

/* One that counts already among those without allocation, and among those under way. */
static void begin(struct shard *sh, struct listener *l, const struct flow *f, unsigned thread,
                  const struct dtls_hello *h, const uint8_t *data, size_t len)
{
    struct association *a = assoc_make(sh, l, f);
    if (a && start(sh, a, thread, h, data, len))
        return;
    count(sh, CTR_dtls_refused);
    if (a) {
        end(sh, a);
        return;
    }
    handshakes_leave(threads(sh));
    crowd_leave(assoc_crowd(sh), &f->client);
}

void shake_begin(struct shard *sh, struct listener *l, const struct flow *f,
                 const struct dtls_hello *h, const uint8_t *data, size_t len)
{
    unsigned thread;
    if (!crowd_enter(assoc_crowd(sh), &f->client)) {
        count(sh, CTR_dtls_refused);
    } else if (!handshakes_enter(threads(sh), &thread)) {
        crowd_leave(assoc_crowd(sh), &f->client);
        count(sh, CTR_handshakes_many);
    } else {
        begin(sh, l, f, thread, h, data, len);
    }
}
