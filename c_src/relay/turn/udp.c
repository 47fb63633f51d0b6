/*
 * UDP clients: a datagram is a message (RFC 8489 6.2.1).
 */
#include "udp.h"

#include "count.h"
#include "dtls_client.h"
#include "input.h"
#include "to_proxy.h"
#include "udp_proxied.h"
#include "unsent.h"

/* Where proxies stand before us, or DTLS is served. Apart, so that nobody else pays for it. */
__attribute__((noinline)) static void seldom(struct shard *sh, struct listener *l,
                                             const struct flow *f, struct io_packet *p)
{
    if (sh->front && front_is_proxy_of_datagrams(sh->front, &p->from))
        udp_proxied_packet(sh, l, p, &f->server);
    else if (!l->secured || !dtls_packet(sh, l, f, p))
        input_message(sh, l, f, p->data, p->len);
}

static void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
{
    struct shard *sh = ctx;
    struct listener *l = container_of(s, struct listener, io);
    struct flow f = {.transport = &transport_udp, .way = l->end.way, .client = p->from};
    count(sh, CTR_client_packets);
    count_n(sh, CTR_client_bytes, p->len);
    if (UNLIKELY(p->truncated)) {
        count(sh, CTR_truncated);
        return;
    }
    if (UNLIKELY(p->from.port == 0)) {
        count(sh, CTR_source_port_zero);
        return;
    }
    f.server = p->dest.family != ADDR_NONE ? p->dest : l->local;
    f.server.port = l->local.port;
    if (UNLIKELY(sh->front || l->secured))
        seldom(sh, l, &f, p);
    else
        input_message(sh, l, &f, p->data, p->len);
}

static void on_closed(void *ctx, struct io_socket *s)
{
    (void)ctx;
    shard_listener_closed(container_of(s, struct listener, io));
}

static void on_unsent(void *ctx, struct io_socket *s, const struct io_unsent *u)
{
    const struct listener *l = container_of(s, struct listener, io);
    struct flow f = {.transport = &transport_udp,
                     .client = *u->to,
                     .server = u->from->family != ADDR_NONE ? *u->from : l->local};
    f.server.port = l->local.port;
    unsent_to_client(ctx, &f, u);
}

static int udp_listen(struct shard *sh, struct listener *l)
{
    static const struct io_handler handler = {
        .on_packet = on_packet, .on_closed = on_closed, .on_unsent = on_unsent};
    l->io.handler = &handler;
    l->io.first = true;
    l->io.wants_dest = addr_is_any(&l->local);
    return io_add(sh->io, &l->io);
}

static void udp_unlisten(struct shard *sh, struct listener *l)
{
    io_remove(sh->io, &l->io);
}

static bool udp_reach(struct shard *sh, struct listener *l, const struct addr *client,
                      const struct addr *server, struct flow *out)
{
    const struct proxied *p = proxied_find(&sh->proxieds, l, client, server);
    *out = (struct flow){.transport = &transport_udp,
                         .way = p ? p->end.way : l->end.way,
                         .client = *client,
                         .server = *server};
    return true;
}

static void udp_send(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    if (UNLIKELY(!e)) {
        unsent_message(sh, f, CTR_send_failed, data, len);
        return;
    }
    struct proxied *p = proxied_of(e);
    if (UNLIKELY(p)) {
        to_proxy(sh, p, NULL, data, len);
        return;
    }
    count(sh, CTR_client_sent_packets);
    count_n(sh, CTR_client_sent_bytes, len);
    io_send(sh->io, &e->listener->io, data, len, &f->client, &f->server, 0);
}

static void udp_send_channel(struct shard *sh, const struct flow *f, uint16_t number,
                             const struct io_packet *p)
{
    uint8_t head[CHANNEL_HEADER_LEN];
    if (LIKELY(p->roomy)) {
        channel_put_header(p->data, number, p->len);
        udp_send(sh, f, p->data - CHANNEL_HEADER_LEN, p->len + CHANNEL_HEADER_LEN);
        return;
    }
    struct way_end *e = way_resolve(&sh->ways, f->way);
    if (UNLIKELY(!e)) {
        unsent_media(sh, f, CTR_send_failed, 1, p->len);
        return;
    }
    channel_put_header(head + CHANNEL_HEADER_LEN, number, p->len);
    struct proxied *proxied = proxied_of(e);
    if (UNLIKELY(proxied)) {
        to_proxy(sh, proxied, head, p->data, p->len);
        return;
    }
    count(sh, CTR_client_sent_packets);
    count_n(sh, CTR_client_sent_bytes, p->len + CHANNEL_HEADER_LEN);
    io_send_headed(sh->io, &e->listener->io, head, p->data, p->len, &f->client, &f->server);
}

const struct transport transport_udp = {
    .kind = CTL_TRANSPORT_UDP,
    .datagrams = true,
    .listen = udp_listen,
    .unlisten = udp_unlisten,
    .send = udp_send,
    .send_channel = udp_send_channel,
    .reach = udp_reach,
    .secure = &transport_dtls,
};

const struct transport transport_dtls = {
    .kind = CTL_TRANSPORT_DTLS,
    .datagrams = true,
    .listen = udp_listen,
    .unlisten = udp_unlisten,
    .send = dtls_send,
    .send_channel = dtls_send_channel,
    .reach = dtls_reach,
    .kept = dtls_kept,
    .session = dtls_session,
    .secure = &transport_dtls,
};
