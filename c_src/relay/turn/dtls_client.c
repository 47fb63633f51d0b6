#include "dtls_client.h"

#include "assoc.h"
#include "count.h"
#include "dtls_out.h"
#include "greet.h"
#include "shake.h"

/* -------------------------------------------------------------------------------------- sending */

/* NULL when it is gone. */
static struct association *association_of(struct shard *sh, const struct flow *f)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    if (UNLIKELY(!e))
        count(sh, CTR_send_failed);
    return LIKELY(e) ? container_of(e, struct association, end) : NULL;
}

void dtls_send(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    enum { PREFIX = 2 }; /* the length, as dtls_next has it */
    struct association *a = association_of(sh, f);
    if (!a)
        return;
    if (len > DTLS_PLAIN_MAX) {
        count(sh, CTR_truncated);
        return;
    }
    size_t cap = PREFIX + len + DTLS_OVERHEAD;
    struct wbytes out = wbytes_of(io_scratch(sh->io, cap), cap);
    a->resting = false;
    if (dtls_write(a->tls, data, len, &out)) {
        dtls_out(sh, a->below, &a->flow, out.start + PREFIX, wbytes_len(&out) - PREFIX);
    } else {
        a->broken = true;
        count(sh, CTR_send_failed);
    }
}

void dtls_send_channel(struct shard *sh, const struct flow *f, uint16_t number,
                       const struct io_packet *p)
{
    if (p->roomy) {
        channel_put_header(p->data, number, p->len);
        dtls_send(sh, f, p->data - CHANNEL_HEADER_LEN, p->len + CHANNEL_HEADER_LEN);
        return;
    }
    uint8_t *copy = io_scratch(sh->io, CHANNEL_HEADER_LEN + p->len);
    channel_put_header(copy + CHANNEL_HEADER_LEN, number, p->len);
    memcpy(copy + CHANNEL_HEADER_LEN, p->data, p->len);
    dtls_send(sh, f, copy, CHANNEL_HEADER_LEN + p->len);
}

bool dtls_reach(struct shard *sh, struct listener *l, const struct addr *client,
                const struct addr *server, struct flow *out)
{
    struct association *shaking;
    const struct flow f = {.transport = l->transport->secure, .client = *client, .server = *server};
    const struct association *a = association_find(&sh->associations, &f, &shaking);
    if (!a || a->end.listener != l)
        return false;
    *out = a->flow;
    return true;
}

void dtls_kept(struct shard *sh, const struct flow *f, bool kept)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    if (e)
        assoc_kept(sh, container_of(e, struct association, end), kept);
}

const struct tls_session *dtls_session(struct shard *sh, const struct flow *f)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    return e ? container_of(e, struct association, end)->tls : NULL;
}

/* ------------------------------------------------------------------------------------- receiving
 */

static bool is_of(const struct association *a, const struct dtls_hello *h)
{
    return a && memcmp(a->random, h->random, DTLS_RANDOM_LEN) == 0;
}

/* Said again by a client that has not heard, or by one that starts over: his session stands until
 * the handshake of the next is done, for anybody can send a hello from his address. */
static void on_hello(struct shard *sh, struct listener *l, const struct flow *f,
                     const struct io_packet *p, const struct dtls_hello *h)
{
    struct association *shaking, *open = association_find(&sh->associations, f, &shaking);
    if (is_of(shaking, h))
        shake_feed(sh, shaking, p->data, p->len, false);
    else if (!l->certs)
        count(sh, CTR_not_stun); /* there were some once */
    else if (is_of(open, h) || !l->open)
        count(sh, CTR_dtls_unknown);
    else if (!greet(sh, f, h))
        return;
    else if (shaking && !shake_give_up(sh, shaking))
        count(sh, CTR_dtls_waiting);
    else
        shake_begin(sh, l, f, h, p->data, p->len);
}

/* A record in the clear belongs to a handshake. An encrypted one may belong to the session there is
 * or to a handshake beside it: it is given to both, and the wrong one cannot decrypt it. */
static void on_record(struct shard *sh, const struct listener *l, const struct flow *f,
                      struct io_packet *p)
{
    struct association *shaking, *open = association_find(&sh->associations, f, &shaking);
    struct dtls_record r;
    if (!dtls_record_read(p->data, p->len, &r)) {
        count(sh, CTR_dtls_bad);
        return;
    }
    if (shaking)
        shake_feed(sh, shaking, p->data, p->len, r.epoch > 0);
    if (open && (!shaking || r.epoch > 0))
        assoc_read(sh, open, p->data, p->len, p->len);
    else if (!shaking)
        count(sh, l->certs ? CTR_dtls_unknown : CTR_not_stun);
}

bool dtls_packet(struct shard *sh, struct listener *l, const struct flow *seen, struct io_packet *p)
{
    struct dtls_hello h;
    struct flow f = *seen;
    f.transport = l->transport->secure;
    if (p->len == 0 || !dtls_is_first(p->data[0])) {
        if (l->transport->secure != l->transport)
            return false;
        count(sh, CTR_not_stun);
        return true;
    }
    switch (dtls_hello_read(p->data, p->len, &h)) {
    case DTLS_HELLO:
        on_hello(sh, l, &f, p, &h);
        break;
    case DTLS_BAD_HELLO:
        count(sh, CTR_dtls_bad);
        break;
    case DTLS_NO_HELLO:
        on_record(sh, l, &f, p);
        break;
    }
    return true;
}
