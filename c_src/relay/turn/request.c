/*
 * Each request takes a credit, a slot that remembers where the answer goes (pending.h); without one
 * it is dropped and the client sends it again. A source whose requests Erlang found to be nobody's
 * more often than strangers are answered sends it no more of them for a while, but for those of a
 * session. Its address is proven by the nonce: nobody can spend that budget for another.
 */
#include "request.h"

#include "answer.h"
#include "count.h"
#include "notice.h"
#include "post.h"
#include "tls.h"

/* The session this 5-tuple has by a move; 0 without. */
static uint64_t roamed_to(struct shard *sh, const struct flow *f)
{
    const struct roamer *roamed = roamer_find(&sh->roamers, f);
    return roamed ? roamed->session : 0;
}

/* What the client has shown, empty where it has shown none. */
static struct ctl_bytes certificate_of(struct shard *sh, const struct flow *f)
{
    const struct tls_session *tls = f->transport->session ? f->transport->session(sh, f) : NULL;
    size_t len = tls ? tls_client_certificate(tls, NULL) : 0;
    uint8_t *der = len ? io_scratch(sh->io, len) : NULL;
    if (der)
        tls_client_certificate(tls, der);
    return ctl_bytes_of(der, len);
}

/* Its credit is free, and what its client says behind it is read again. */
static void give_up(struct shard *sh, struct pending *p)
{
    if (p->holds)
        p->flow.transport->hold(sh, &p->flow, false);
    pending_release(&sh->pending, p);
}

/* NULL when it was dropped. */
static struct pending *forward(struct shard *sh, const struct listener *l, const struct flow *f,
                               const uint8_t *data, size_t len)
{
    if (len > REQUEST_MAX) {
        count(sh, CTR_request_too_long);
        return NULL;
    }
    if (UNLIKELY(atomic_load_explicit(&sh->config.limits->away, memory_order_relaxed))) {
        count(sh, CTR_erlang_away);
        return NULL;
    }
    struct session *s = session_find(&sh->sessions, f);
    uint64_t session = s ? s->id : roamed_to(sh, f);
    if (!session && !ratelimit_has(&sh->config.limits->failures, &f->client, sh->time.now)) {
        notice_over_rate(sh, f, true);
        return NULL;
    }
    struct pending *p = pending_take(&sh->pending, f, session != 0, sh->time.now);
    if (!p) {
        count(sh, CTR_erlang_behind);
        return NULL;
    }
    struct ctl_frame frame = {.code = CTL_REQUEST,
                              .u.request = {.flow = pending_number(&sh->pending, p),
                                            .listener = l->id,
                                            .transport = f->transport->kind,
                                            .client = f->client,
                                            .server = f->server,
                                            .session = session,
                                            .certificate = certificate_of(sh, f),
                                            .packet = ctl_bytes_of(data, len)}};
    if (!post_request(sh, &frame)) {
        pending_release(&sh->pending, p);
        count(sh, CTR_erlang_behind);
        return NULL;
    }
    if (s)
        s->asked = pending_number(&sh->pending, p);
    count(sh, CTR_requests);
    return p;
}

void request_forward(struct shard *sh, const struct listener *l, const struct flow *f,
                     const uint8_t *data, size_t len)
{
    forward(sh, l, f, data, len);
}

void request_forward_held(struct shard *sh, const struct listener *l, const struct flow *f,
                          const uint8_t *data, size_t len)
{
    struct pending *p = forward(sh, l, f, data, len);
    if (!p || !f->transport->hold)
        return;
    p->holds = true;
    f->transport->hold(sh, f, true);
}

void request_forget_all(struct shard *sh)
{
    struct pending *p;
    while ((p = pending_first(&sh->pending)))
        give_up(sh, p);
}

void request_failed(struct shard *sh, uint64_t number)
{
    const struct pending *p = pending_find(&sh->pending, number);
    if (p)
        ratelimit_take(&sh->config.limits->failures, &p->flow.client, sh->time.now);
}

void request_answer(struct shard *sh, uint64_t number, const uint8_t *packet, size_t len)
{
    struct pending *p = pending_find(&sh->pending, number);
    if (!p) {
        count(sh, CTR_late_answer);
        return;
    }
    if (len)
        answer_send(sh, &p->flow, packet, len);
    give_up(sh, p);
}
