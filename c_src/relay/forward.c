/*
 * The relaying itself: client to peer (ChannelData, Send), peer to client (ChannelData, Data).
 * The payload is not moved: headers are stripped by sending from further in, and added in the room
 * before it; only a Data indication around a packet without room is built of a copy.
 * RFC 8656 11.2, 11.3, 12.5, 12.6. No check here asks anybody else.
 */
#include "input.h"

#include <string.h>

_Static_assert(CTR_over_bandwidth - CTR_no_channel + 1 == SESSION_DROPS,
               "what drop() is told is counted per session");

/* For one of the reasons a session counts. */
static void drop(struct worker *w, struct session *s, enum counter reason)
{
    s->dropped++;
    s->drops[reason - CTR_no_channel]++;
    count(w, reason);
}

/* Is there bandwidth left for the allocation, its user and the server? Checked in this order; what
 * a later one refuses an earlier one has paid for, so that nobody gains by trying. */
static bool has_bandwidth(struct worker *w, struct session *s, enum direction d, size_t len)
{
    uint64_t now = w->time.now;
    uint32_t units = (uint32_t)len;
    if (LIKELY(!s->rate.unit && !s->user && !shared_bucket_limits(&w->config.limits->total)))
        return true;
    return bucket_take(&s->own[d], s->rate, now, units) &&
           (!s->user || shared_bucket_take(s->user, d, now, units)) &&
           shared_bucket_take(&w->config.limits->total, d, now, units);
}

/* An address of this host: may this port of it be reached? */
static bool may_reach_own(const struct worker *w, const struct relayed *r, const struct addr *peer)
{
    struct addr self = relayed_local(r);
    return policy_allows_port(w->policy, w->config.ports, peer, &self);
}

/* Another client's relayed address is bound here perhaps under another name (1:1 NAT). */
static const struct addr *as_bound(const struct worker *w, const struct addr *peer,
                                   struct addr *bound)
{
    const struct pool *pool =
        ports_renamed(w->config.ports) ? ports_live_at(w->config.ports, peer) : NULL;
    if (!pool)
        return peer;
    *bound = pool->local;
    bound->port = peer->port;
    return bound;
}

/* Out of the relayed socket. The permission has been found alive. */
static void to_peer(struct worker *w, struct session *s, const struct permission *perm,
                    const struct addr *peer, const uint8_t *payload, size_t len, unsigned flags)
{
    struct relayed *r = session_relayed(s, peer->family, w->time.now);
    if (UNLIKELY(!r)) {
        drop(w, s, CTR_peer_family);
        return;
    }
    struct addr bound;
    if (UNLIKELY(perm->is_own)) {
        if (!may_reach_own(w, r, peer)) {
            drop(w, s, CTR_forbidden_peer);
            return;
        }
        peer = as_bound(w, peer, &bound);
    }
    if (!has_bandwidth(w, s, TO_PEER, len)) {
        drop(w, s, CTR_over_bandwidth);
        return;
    }
    s->client_packets++;
    s->client_bytes += len;
    count(w, CTR_peer_sent_packets);
    count_n(w, CTR_peer_sent_bytes, len);
    io_send(w->io, &r->io, payload, len, peer, NULL, flags);
}

void forward_channel(struct worker *w, struct session *s, uint8_t *data, size_t len)
{
    uint16_t number;
    const uint8_t *payload;
    size_t payload_len;
    if (!channel_parse(data, len, &number, &payload, &payload_len) ||
        number > w->config.channel_max) {
        drop(w, s, CTR_bad_channel);
        return;
    }
    struct channel *c = channel_by_number(&w->sessions, s, number, w->time.now);
    if (!c) {
        drop(w, s, CTR_no_channel);
        return;
    }
    struct permission *perm = channel_permission(&w->sessions, c, w->time.now);
    if (!perm) {
        drop(w, s, CTR_no_permission);
        return;
    }
    to_peer(w, s, perm, &c->peer, payload, payload_len, 0);
}

void forward_send(struct worker *w, struct session *s, const struct stun_view *v)
{
    struct addr peer;
    const uint8_t *payload;
    size_t len;
    if (stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK ||
        stun_get_bytes(v, A_data, &payload, &len) != STUN_OK || peer.port == 0) {
        drop(w, s, CTR_bad_indication);
        return;
    }
    struct permission *perm = permission_find(&w->sessions, s, &peer, w->time.now);
    if (!perm) {
        drop(w, s, CTR_no_permission);
        return;
    }
    /* Between IPv4 and IPv4 alone: elsewhere DONT-FRAGMENT MUST be ignored (RFC 8656 13). */
    bool whole =
        stun_has(v, A_dont_fragment) && peer.family == ADDR_V4 && s->flow.client.family == ADDR_V4;
    to_peer(w, s, perm, &peer, payload, len, whole ? IO_DONT_FRAGMENT : 0);
}

/* Where a relayed packet of another session of ours comes from, as its own client knows it. */
static void name_as_advertised(const struct worker *w, struct addr *from)
{
    if (LIKELY(!ports_renamed(w->config.ports)))
        return;
    const struct pool *pool = ports_live_at(w->config.ports, from);
    if (pool) {
        uint16_t port = from->port;
        *from = pool->advertised;
        from->port = port;
    }
}

/* A copy of a payload that may be built around. */
static uint8_t *with_room(struct worker *w, const struct io_packet *p)
{
    uint8_t *room = io_scratch(w->io, IO_HEADROOM + p->len + IO_TAILROOM);
    return memcpy(room + IO_HEADROOM, p->data, p->len);
}

void forward_peer(struct worker *w, struct relayed *r, struct io_packet *p)
{
    struct session *s = r->session;
    count(w, CTR_peer_packets);
    count_n(w, CTR_peer_bytes, p->len);
    if (UNLIKELY(p->truncated)) {
        drop(w, s, CTR_truncated);
        return;
    }
    if (s->dying || r->deadline <= w->time.now) {
        count(w, CTR_no_allocation);
        return;
    }
    name_as_advertised(w, &p->from);
    struct channel *c = channel_by_peer(&w->sessions, s, &p->from, w->time.now);
    if (c ? !channel_permission(&w->sessions, c, w->time.now)
          : !permission_find(&w->sessions, s, &p->from, w->time.now)) {
        drop(w, s, CTR_no_permission);
        return;
    }
    if (!has_bandwidth(w, s, TO_CLIENT, p->len)) {
        drop(w, s, CTR_over_bandwidth);
        return;
    }
    s->peer_packets++;
    s->peer_bytes += p->len;

    if (c) {
        s->flow.transport->send_channel(w, &s->flow, c->number, p);
        return;
    }
    uint8_t txid[STUN_TXID_LEN];
    size_t len;
    worker_random(w, txid, sizeof(txid));
    const uint8_t *message =
        stun_wrap_data(p->roomy ? p->data : with_room(w, p), p->len, &p->from, txid, &len);
    s->flow.transport->send(w, &s->flow, message, len);
}

/* A Data indication that carries no data but what became of it (RFC 8656 11.5). Who sent the ICMP
 * message is nobody's business; whom the datagram was meant for must be permitted. */
void forward_icmp(struct worker *w, struct relayed *r, const struct io_icmp *icmp)
{
    struct session *s = r->session;
    struct addr peer = icmp->peer;
    count(w, CTR_icmp_errors);
    if (!session_alive(s, w->time.now))
        return;
    name_as_advertised(w, &peer);
    if (!permission_find(&w->sessions, s, &peer, w->time.now)) {
        drop(w, s, CTR_no_permission);
        return;
    }
    uint8_t txid[STUN_TXID_LEN], value[8] = {0, 0, icmp->type, icmp->code};
    store32(value + 4, icmp->mtu);
    worker_random(w, txid, sizeof(txid));
    struct stun_builder b;
    uint8_t *buf = io_scratch(w->io, 128);
    stun_build_start(&b, buf, 128, STUN_INDICATION, STUN_DATA, txid);
    stun_put_addr(&b, A_xor_peer_address, &peer);
    stun_put_bytes(&b, A_icmp, value, sizeof(value));
    size_t len = stun_build_end(&b);
    if (len)
        s->flow.transport->send(w, &s->flow, buf, len);
}
