/*
 * UDP clients: a datagram is a message (RFC 8489 6.2.1).
 */
#include "input.h"

static void udp_input(struct worker *w, struct listener *l, struct io_packet *p)
{
    struct flow f = {.transport = &transport_udp, .listener = l, .client = p->from};
    count(w, CTR_client_packets);
    count_n(w, CTR_client_bytes, p->len);
    if (UNLIKELY(p->truncated)) {
        count(w, CTR_truncated);
        return;
    }
    f.server = p->dest.family != ADDR_NONE ? p->dest : l->local;
    f.server.port = l->local.port;
    input_message(w, &f, p->data, p->len);
}

static void udp_send(struct worker *w, const struct flow *f, const uint8_t *data, size_t len)
{
    count(w, CTR_client_sent_packets);
    count_n(w, CTR_client_sent_bytes, len);
    io_send(w->io, &f->listener->io, data, len, &f->client, &f->server, 0);
}

static void udp_send_channel(struct worker *w, const struct flow *f, uint16_t number,
                             const struct io_packet *p)
{
    uint8_t head[CHANNEL_HEADER_LEN];
    if (LIKELY(p->roomy)) {
        channel_put_header(p->data, number, p->len);
        udp_send(w, f, p->data - CHANNEL_HEADER_LEN, p->len + CHANNEL_HEADER_LEN);
        return;
    }
    count(w, CTR_client_sent_packets);
    count_n(w, CTR_client_sent_bytes, p->len + CHANNEL_HEADER_LEN);
    channel_put_header(head + CHANNEL_HEADER_LEN, number, p->len);
    io_send_headed(w->io, &f->listener->io, head, p->data, p->len, &f->client, &f->server);
}

_Static_assert((int)IO_HEAD_LEN == (int)CHANNEL_HEADER_LEN, "a head is ChannelData's");

const struct transport transport_udp = {
    .name = "udp",
    .protocol = IPPROTO_UDP,
    .input = udp_input,
    .send = udp_send,
    .send_channel = udp_send_channel,
};
