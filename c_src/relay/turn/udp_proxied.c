/*
 * A client is at home in the worker that his own address says, as one without proxy is: so an
 * allocation that is replayed, or that moves, is where his datagrams come to. The kernel spreads by
 * the address of the proxy; who gets a datagram of another's client hands it over.
 */
#include "udp_proxied.h"

#include "count.h"
#include "dtls_client.h"
#include "input.h"
#include "post.h"
#include "proxy.h"

/* What waits to be answered goes where the client was heard last. A session that was made without
 * having heard of him (replay) learns the way. */
static void learn_way(struct shard *sh, const struct flow *f)
{
    struct session *s = session_find(&sh->sessions, f);
    if (s)
        session_learn_way(&sh->sessions, s, f);
}

static void take(struct shard *sh, struct listener *l, const struct mail_proxied *m, uint8_t *data,
                 size_t len)
{
    struct proxied *p = proxied_note(&sh->proxieds, l, &m->client, &m->server);
    if (!p) {
        count(sh, CTR_no_buffers);
        return;
    }
    p->via = m->via;
    p->local = m->local;
    const struct flow f = {
        .transport = l->transport, .way = p->end.way, .client = m->client, .server = m->server};
    struct io_packet inner = {.data = data, .len = len, .from = m->client};
    if (l->secured && dtls_packet(sh, l, &f, &inner))
        return;
    learn_way(sh, &f);
    input_message(sh, l, &f, data, len);
}

void udp_proxied_packet(struct shard *sh, struct listener *l, const struct io_packet *p,
                        const struct addr *local)
{
    struct proxy_header h;
    if (!proxy_read_datagram(p->data, p->len, &h)) {
        count(sh, CTR_proxy_header);
        return;
    }
    struct mail_proxied m = {.listener = l->id,
                             .client = h.announces ? h.client : p->from,
                             .server = h.announces ? h.server : *local,
                             .via = p->from,
                             .local = *local,
                             .len = (uint32_t)(p->len - h.len)};
    uint8_t *data = p->data + h.len;
    unsigned home = socket_spread(&m.client, sh->config.workers);
    if (home == sh->config.index)
        take(sh, l, &m, data, m.len);
    else if (!post_letter(sh, home, MAIL_PROXIED, &m, sizeof(m), data, m.len))
        count(sh, CTR_carry_full);
}

void udp_proxied_mail(struct shard *sh, const struct mail_proxied *m, const uint8_t *data)
{
    struct listener *l = shard_listener(sh, m->listener);
    if (!l) {
        count(sh, CTR_carry_full); /* the listener it came in by is gone here */
        return;
    }
    uint8_t *copy = io_scratch(sh->io, m->len);
    if (m->len)
        memcpy(copy, data, m->len);
    take(sh, l, m, copy, m->len);
}
