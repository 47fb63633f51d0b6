/*
 * UDP clients: a datagram is a message (RFC 8489 6.2.1).
 */
#include "udp.h"

#include "count.h"
#include "dtls_client.h"
#include "input.h"

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
    if (UNLIKELY(l->secured) && dtls_packet(sh, l, &f, p))
        return;
    input_message(sh, l, &f, p->data, p->len);
}

static void on_closed(void *ctx, struct io_socket *s)
{
    (void)ctx;
    container_of(s, struct listener, io)->in_use = false;
}

static int udp_listen(struct shard *sh, struct listener *l)
{
    static const struct io_handler handler = {.on_packet = on_packet, .on_closed = on_closed};
    l->io.handler = &handler;
    l->io.first = true;
    l->io.wants_dest = addr_is_any(&l->local);
    return io_add(sh->io, &l->io);
}

static void udp_unlisten(struct shard *sh, struct listener *l)
{
    tls_store_release(l->certs);
    l->certs = NULL;
    io_remove(sh->io, &l->io);
}

static bool udp_reach(struct shard *sh, struct listener *l, const struct addr *client,
                      const struct addr *server, struct flow *out)
{
    (void)sh;
    *out = (struct flow){
        .transport = &transport_udp, .way = l->end.way, .client = *client, .server = *server};
    return true;
}

static void udp_send(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    struct listener *l = shard_listener_of(sh, f);
    if (UNLIKELY(!l)) {
        count(sh, CTR_send_failed);
        return;
    }
    count(sh, CTR_client_sent_packets);
    count_n(sh, CTR_client_sent_bytes, len);
    io_send(sh->io, &l->io, data, len, &f->client, &f->server, 0);
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
    struct listener *l = shard_listener_of(sh, f);
    if (UNLIKELY(!l)) {
        count(sh, CTR_send_failed);
        return;
    }
    count(sh, CTR_client_sent_packets);
    count_n(sh, CTR_client_sent_bytes, p->len + CHANNEL_HEADER_LEN);
    channel_put_header(head + CHANNEL_HEADER_LEN, number, p->len);
    io_send_headed(sh->io, &l->io, head, p->data, p->len, &f->client, &f->server);
}

_Static_assert((int)IO_HEAD_LEN == (int)CHANNEL_HEADER_LEN, "a head is ChannelData's");

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
    .secure = &transport_dtls,
};
