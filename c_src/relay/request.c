/*
 * Requests on their way to Erlang and answers on their way back. Each takes a credit, a slot that
 * remembers where the answer goes; without one the request is dropped and the client retransmits.
 * A flow's number is worker (8 bits), generation (24), slot (32): an answer that comes after its
 * slot was given to another request is recognised and dropped.
 */
#include "input.h"

/* Nobody waits longer: a client's transaction is over after 39.5 s (RFC 8489 6.2.1), and Erlang
 * that has not answered by then has lost it. */
#define PENDING_NS (10 * NS_PER_S)

static uint64_t flow_of(const struct worker *w, const struct pending *p)
{
    return (uint64_t)w->config.index << 56 | (uint64_t)p->generation << 32 |
           slab_index(&w->pending_slab, p);
}

static void release(struct worker *w, struct pending *p)
{
    list_del(&p->in_order);
    p->generation = 0;
    slab_free(&w->pending_slab, p);
}

static struct pending *take_credit(struct worker *w)
{
    struct pending *p = slab_alloc(&w->pending_slab);
    if (!p && !list_empty(&w->pending)) {
        struct pending *oldest = container_of(w->pending.next, struct pending, in_order);
        if (oldest->since + PENDING_NS < w->time.now) {
            release(w, oldest);
            p = slab_alloc(&w->pending_slab);
        }
    }
    if (!p)
        return NULL;
    if (++w->pending_generation > 0xffffff)
        w->pending_generation = 1; /* 0 marks a free slot */
    p->generation = w->pending_generation;
    p->since = w->time.now;
    list_init(&p->in_order);
    list_add_tail(&w->pending, &p->in_order);
    return p;
}

void request_forward(struct worker *w, const struct flow *f, const uint8_t *data, size_t len)
{
    if (len > REQUEST_MAX) {
        count(w, CTR_request_too_long);
        return;
    }
    const struct session *s = session_find(&w->sessions, f);
    const struct roamer *roamed = s ? NULL : roamer_find(&w->sessions, f);
    struct pending *p = take_credit(w);
    if (!p) {
        count(w, CTR_erlang_behind);
        return;
    }
    p->flow = *f;
    struct ctl_frame frame = {.code = CTL_REQUEST,
                              .u.request = {.flow = flow_of(w, p),
                                            .listener = f->listener->id,
                                            .transport = f->transport->protocol,
                                            .client = f->client,
                                            .server = f->server,
                                            .session = s        ? s->id
                                                       : roamed ? roamed->session
                                                                : 0,
                                            .packet = ctl_bytes_of(data, len)}};
    if (!worker_post(w, &frame, true)) {
        release(w, p);
        count(w, CTR_erlang_behind);
        return;
    }
    count(w, CTR_requests);
}

void request_answer(struct worker *w, uint64_t flow, const uint8_t *packet, size_t len)
{
    uint32_t slot = (uint32_t)flow, generation = (uint32_t)(flow >> 32) & 0xffffff;
    struct pending *p = slot < w->pending_slab.touched ? slab_at(&w->pending_slab, slot) : NULL;
    if (!p || generation == 0 || p->generation != generation) {
        count(w, CTR_late_answer);
        return;
    }
    if (len) {
        uint8_t *copy = io_scratch(w->io, len);
        memcpy(copy, packet, len);
        p->flow.transport->send(w, &p->flow, copy, len);
        count(w, CTR_answers);
    }
    release(w, p);
}

bool request_pending_on(struct worker *w, const struct listener *l)
{
    struct list *at;
    list_for_each (at, &w->pending) {
        if (container_of(at, struct pending, in_order)->flow.listener == l)
            return true;
    }
    return false;
}
