#include "step.h"

#include <stdlib.h>

void step_queue_init(struct step_queue *q)
{
    *q = (struct step_queue){.last = &q->first};
}

void step_queue_put(struct step_queue *q, struct step_datagram *d)
{
    d->next = NULL;
    *q->last = d;
    q->last = &d->next;
    q->count++;
}

bool step_queue_add(struct step_queue *q, const uint8_t *data, size_t len)
{
    struct step_datagram *d = q->count < STEP_WAITING ? malloc(sizeof(*d) + len) : NULL;
    if (!d)
        return false;
    *d = (struct step_datagram){.len = len};
    memcpy(d->data, data, len);
    step_queue_put(q, d);
    return true;
}

struct step_datagram *step_queue_take(struct step_queue *q)
{
    struct step_datagram *d = q->first;
    if (!d)
        return NULL;
    q->first = d->next;
    if (!q->first)
        q->last = &q->first;
    q->count--;
    return d;
}

void step_queue_clear(struct step_queue *q)
{
    struct step_datagram *d;
    while ((d = step_queue_take(q)))
        free(d);
}

/* The first datagram has the ClientHello; records behind it are the next. */
static enum tls_result begin(struct step *s, const uint8_t *data, size_t len, struct wbytes *out)
{
    s->tls = dtls_open(s->store, s->thread, s->wall_s);
    tls_store_release(s->store);
    s->store = NULL;
    return s->tls ? dtls_begin(s->tls, data, len, out) : TLS_FAILED;
}

static enum tls_result go_on(struct step *s, struct wbytes *out)
{
    struct step_datagram *d = step_queue_take(&s->in);
    if (!d)
        return dtls_handshake(s->tls, NULL, 0, out);
    enum tls_result r =
        s->tls ? dtls_handshake(s->tls, d->data, d->len, out) : begin(s, d->data, d->len, out);
    free(d);
    return r;
}

void step_take(struct step *s, uint8_t *room, size_t cap)
{
    struct wbytes out = wbytes_of(room, cap);
    do
        s->result = go_on(s, &out);
    while (s->result == TLS_MORE && s->in.first);
    size_t len = wbytes_len(&out);
    s->out = len ? malloc(len) : NULL;
    s->out_len = s->out ? len : 0; /* without memory: as if it was lost on the way */
    if (s->out)
        memcpy(s->out, room, len);
    s->wait_ns = s->tls ? dtls_wait_ns(s->tls) : UINT64_MAX;
}

void step_clear(struct step *s)
{
    step_queue_clear(&s->in);
    free(s->out);
    s->out = NULL;
    tls_store_release(s->store);
    s->store = NULL;
    tls_free(s->tls);
    s->tls = NULL;
}
