#include "assoc.h"

#include "alloc.h"
#include "count.h"
#include "dtls_out.h"
#include "input.h"

/* Every association is looked at so often. */
#define LOOK_NS (5 * NS_PER_S)
/* The first message must be there by then. */
#define START_NS (10 * NS_PER_S)
/* Without allocation one may be silent for so long. */
#define IDLE_NS (60 * NS_PER_S)

/* ------------------------------------------------------------------------------------- the end */

void assoc_close(struct shard *sh, struct association *a)
{
    struct session *session = session_by_way(&sh->sessions, &a->flow);
    if (session)
        alloc_end(sh, session, GONE_CLOSED);
    if (a->crowded)
        crowd_leave(assoc_crowd(sh), &a->flow.client);
    if (a->tls)
        count(sh, CTR_dtls_closed);
    way_close(&sh->ways, &a->end);
    way_release(&sh->ways, a->below);
    timer_clear(&sh->sessions.timers, &a->timer);
    association_free(&sh->associations, a);
}

static void say_end(struct shard *sh, struct association *a)
{
    struct wbytes out = wbytes_of(sh->associations.net, DTLS_STEP_MAX);
    tls_close(a->tls, &out);
    dtls_out_all(sh, a->below, &a->flow, sh->associations.net, wbytes_len(&out));
    assoc_close(sh, a);
}

/* --------------------------------------------------------------------------------------- timers */

static struct shard *shard_of(struct timers *t)
{
    return container_of(container_of(t, struct sessions, timers), struct shard, sessions);
}

/* True when it is over. */
static bool is_over(struct shard *sh, struct association *a)
{
    uint64_t silent = sh->time.now - a->heard;
    if (a->broken)
        return true;
    if (!a->spoken && silent > START_NS) {
        count(sh, CTR_connections_slow);
        return true;
    }
    bool closing = !a->end.listener->open;
    if ((silent > IDLE_NS || closing) && !session_by_way(&sh->sessions, &a->flow)) {
        count(sh, CTR_connections_idle);
        return true;
    }
    return false;
}

static void on_look(struct timers *t, struct timer *timer)
{
    struct shard *sh = shard_of(t);
    struct association *a = container_of(timer, struct association, timer);
    if (is_over(sh, a)) {
        say_end(sh, a);
        return;
    }
    if (!a->resting && sh->time.now - a->heard >= LOOK_NS) {
        dtls_rest(a->tls);
        a->resting = true;
    }
    timer_set(t, &a->timer, sh->time.now + LOOK_NS);
}

/* -------------------------------------------------------------------------------------- reading */

static void on_message(struct shard *sh, struct association *a, uint8_t *data, size_t len)
{
    a->heard = sh->time.now;
    a->spoken = true;
    input_message(sh, a->end.listener, &a->flow, data, len);
}

bool assoc_read(struct shard *sh, struct association *a, uint8_t *data, size_t len, size_t cap)
{
    struct wbytes out = wbytes_of(sh->associations.net, DTLS_STEP_MAX);
    enum tls_result result = TLS_OK;
    size_t at = 0, got;
    a->resting = false;
    while (at < cap &&
           (result = dtls_read(a->tls, data, len, data + at, cap - at, &got, &out)) == TLS_OK) {
        on_message(sh, a, data + at, got);
        at += got;
        len = 0;
    }
    dtls_out_all(sh, a->below, &a->flow, sh->associations.net, wbytes_len(&out));
    if (result == TLS_MORE || result == TLS_OK)
        return true;
    say_end(sh, a); /* nothing is said where it failed: that was */
    return false;
}

/* ------------------------------------------------------------------------------------ the start */

struct association *assoc_make(struct shard *sh, struct listener *l, const struct flow *f)
{
    struct association *a = association_create(&sh->associations, f);
    if (!a)
        return NULL;
    a->crowded = true;
    a->heard = sh->time.now;
    a->end.listener = l;
    way_open(&sh->ways, &a->end); /* there is one for each */
    a->below = f->way;
    way_hold(&sh->ways, a->below);
    a->flow.way = a->end.way;
    return a;
}

void assoc_open(struct shard *sh, struct association *a, struct tls_session *tls)
{
    struct association *shaking;
    struct association *former = association_find(&sh->associations, &a->flow, &shaking);
    if (former) {
        count(sh, CTR_dtls_replaced);
        assoc_close(sh, former);
    }
    count(sh, CTR_dtls_sessions);
    a->tls = tls;
    a->heard = sh->time.now;
    a->timer.due = on_look;
    timer_set(&sh->sessions.timers, &a->timer, sh->time.now + LOOK_NS);
}

void assoc_kept(struct shard *sh, struct association *a, bool kept)
{
    if (kept && a->crowded)
        crowd_leave(assoc_crowd(sh), &a->flow.client);
    else if (!kept && !a->crowded)
        crowd_return(assoc_crowd(sh), &a->flow.client);
    a->crowded = !kept;
    a->heard = sh->time.now;
}
