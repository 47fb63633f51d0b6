#include "capturing.h"

#include <stdio.h>

#include "hand_over.h"

enum { COMMENT = 3 * ADDR_TEXT_MAX + 64 };

struct capture *capturing_of(struct shard *sh, struct session *s)
{
    struct capture *c = s->look ? s->look->capture : NULL;
    if (!c || c->until > sh->time.now)
        return c;
    session_end_capture(&sh->sessions, s);
    return NULL;
}

/* -------------------------------------------------------------------------------- what is kept */

/* Of what a peer gets or has sent. */
static size_t kept(const struct capture *c, const uint8_t *data, size_t len)
{
    return c->payload ? len : media_header_len(data, len);
}

/* Of a message of TURN: up to where such a datagram in it ends, or all of it. */
static size_t kept_of_message(const struct capture *c, const uint8_t *data, size_t len)
{
    struct stun_view v;
    const uint8_t *inner;
    size_t inner_len;
    if (c->payload || stun_parse(&v, data, len) != STUN_OK ||
        stun_get_bytes(&v, A_data, &inner, &inner_len) != STUN_OK)
        return len;
    return (size_t)(inner - data) + media_header_len(inner, inner_len);
}

static const char *over(const struct session *s)
{
    switch (s->flow.transport->kind) {
    case CTL_TRANSPORT_TCP:
        return "over TCP; ";
    case CTL_TRANSPORT_TLS:
        return "over TLS; ";
    case CTL_TRANSPORT_DTLS:
        return "over DTLS; ";
    default:
        return "";
    }
}

/* The client's side; peer: NULL in a request or an answer, channel 0 without one. */
static void put_client_side(struct capture *c, const struct session *s, const struct addr *peer,
                            uint16_t channel, struct capture_packet p)
{
    char comment[COMMENT], text[ADDR_TEXT_MAX];
    int len = snprintf(comment, sizeof(comment), "%s%s", over(s),
                       p.inbound ? "from the client" : "to the client");
    if (peer)
        len += snprintf(comment + len, sizeof(comment) - (size_t)len, ", %s peer %s",
                        p.inbound ? "for" : "of", addr_format(peer, text));
    if (channel)
        snprintf(comment + len, sizeof(comment) - (size_t)len, " by channel 0x%04x", channel);
    p.side = CAPTURE_CLIENT;
    p.from = p.inbound ? &s->flow.client : &s->flow.server;
    p.to = p.inbound ? &s->flow.server : &s->flow.client;
    p.comment = comment;
    capture_put(c, &p);
}

static void put_peer_side(struct capture *c, const struct session *s, const struct relayed *r,
                          const struct addr *peer, bool inbound, const uint8_t *data, size_t len)
{
    char comment[COMMENT], text[2][ADDR_TEXT_MAX];
    struct addr local = relayed_local(r), advertised = relayed_advertised(r);
    snprintf(comment, sizeof(comment), "%s the peer, relayed at %s %s client %s",
             inbound ? "from" : "to", addr_format(&advertised, text[0]), inbound ? "for" : "of",
             addr_format(&s->flow.client, text[1]));
    struct capture_packet p = {.side = CAPTURE_PEER,
                               .inbound = inbound,
                               .from = inbound ? peer : &local,
                               .to = inbound ? &local : peer,
                               .data = data,
                               .len = len,
                               .kept = kept(c, data, len),
                               .comment = comment};
    capture_put(c, &p);
}

/* ----------------------------------------------------------------------------------- packets */

void capturing_from_client(struct shard *sh, struct session *s, const struct channel *c,
                           const uint8_t *payload, size_t len)
{
    struct capture *capture = capturing_of(sh, s);
    if (!capture || !c)
        return;
    struct capture_packet p = {.inbound = true,
                               .head = payload - CHANNEL_HEADER_LEN,
                               .head_len = CHANNEL_HEADER_LEN,
                               .data = payload,
                               .len = len,
                               .kept = kept(capture, payload, len)};
    put_client_side(capture, s, &c->peer, c->number, p);
}

void capturing_send(struct shard *sh, struct session *s, const struct stun_view *v)
{
    struct capture *capture = capturing_of(sh, s);
    struct addr peer;
    if (!capture || stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK)
        return;
    struct capture_packet p = {.inbound = true,
                               .data = v->data,
                               .len = v->len,
                               .kept = kept_of_message(capture, v->data, v->len)};
    put_client_side(capture, s, &peer, 0, p);
}

void capturing_to_peer(struct shard *sh, struct session *s, const struct relayed *r,
                       const struct addr *peer, const uint8_t *payload, size_t len)
{
    struct capture *capture = capturing_of(sh, s);
    if (capture)
        put_peer_side(capture, s, r, peer, false, payload, len);
}

void capturing_from_peer(struct shard *sh, struct session *s, const struct relayed *r,
                         const struct io_packet *p)
{
    struct capture *capture = capturing_of(sh, s);
    if (capture)
        put_peer_side(capture, s, r, &p->from, true, p->data, p->len);
}

bool capturing_hand_over(struct shard *sh, struct session *s, const struct channel *c,
                         const struct io_packet *p)
{
    struct capture *capture = capturing_of(sh, s);
    if (!capture)
        return false;
    if (!c) {
        size_t len;
        const uint8_t *message = hand_over_wrap(sh, &p->from, p, &len);
        struct capture_packet out = {
            .data = message, .len = len, .kept = kept_of_message(capture, message, len)};
        put_client_side(capture, s, &p->from, 0, out);
        s->flow.transport->send(sh, &s->flow, message, len);
        return true;
    }
    uint8_t head[CHANNEL_HEADER_LEN];
    store16(head, c->number);
    store16(head + 2, (uint16_t)p->len);
    struct capture_packet out = {.head = head,
                                 .head_len = sizeof(head),
                                 .data = p->data,
                                 .len = p->len,
                                 .kept = kept(capture, p->data, p->len)};
    put_client_side(capture, s, &p->from, c->number, out);
    hand_over(sh, &s->flow, c->number, &p->from, p);
    return true;
}

COLD void capturing_message_of(struct shard *sh, const struct flow *f, bool inbound,
                               const uint8_t *data, size_t len)
{
    struct session *s = session_find(&sh->sessions, f);
    struct capture *capture = s ? capturing_of(sh, s) : NULL;
    if (!capture)
        return;
    struct capture_packet p = {.inbound = inbound, .data = data, .len = len, .kept = len};
    put_client_side(capture, s, NULL, 0, p);
}
