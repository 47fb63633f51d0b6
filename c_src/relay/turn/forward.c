/*
 * The relaying itself: client to peer (ChannelData, Send), peer to client (ChannelData, Data).
 * The payload is not moved: headers are stripped by sending from further in, and added in the room
 * before it; only a Data indication around a packet without room is built of a copy.
 * RFC 8656 11.2, 11.3, 12.5, 12.6. No check here asks anybody else.
 */
#include "forward.h"

#include <string.h>

#include "count.h"
#include "judge.h"
#include "meter.h"
#include "notice.h"

enum {
    HEADERS_V4 = 20 + 8,
    HEADERS_V6 = 40 + 8,
    CHANNEL_DATA_MAX = 65507 - CHANNEL_HEADER_LEN, /* what UDP over IPv4 takes */
};

static void drop(struct shard *sh, struct session *s, enum counter reason)
{
    count_drops(sh, s, reason, 1);
}

/* Is there bandwidth left? A datagram counts with its headers of IP and UDP, between here and the
 * peer: one without payload is not free. */
static bool has_bandwidth(struct shard *sh, struct session *s, enum direction d,
                          const struct addr *peer, size_t len)
{
    if (LIKELY(!s->rate.unit && !s->user && !shared_bucket_limits(&sh->config.limits->total)))
        return true;
    return meter_take(sh, s, d,
                      (uint32_t)len + (peer->family == ADDR_V4 ? HEADERS_V4 : HEADERS_V6));
}

/* Not every port of this IP: may this one be reached? */
static bool may_reach_port(const struct shard *sh, const struct relayed *r,
                           const struct permission *perm, const struct addr *peer)
{
    struct addr self = relayed_local(r);
    return policy_allows_port(sh->policy, (enum reach)perm->reach, peer, &self);
}

/* Another client's relayed address is bound here perhaps under another name (1:1 NAT). */
static const struct addr *as_bound(const struct shard *sh, const struct addr *peer,
                                   struct addr *bound)
{
    const struct pool *pool = sh->policy->renames ? policy_pool_at(sh->policy, peer) : NULL;
    if (!pool)
        return peer;
    *bound = pool->local;
    bound->port = peer->port;
    return bound;
}

/* Out of the relayed socket. The permission has been found alive. */
static void to_peer(struct shard *sh, struct session *s, const struct permission *perm,
                    const struct addr *peer, const uint8_t *payload, size_t len, unsigned flags)
{
    struct relayed *r = session_relayed(s, peer->family, sh->time.now);
    if (UNLIKELY(!r)) {
        drop(sh, s, CTR_peer_family);
        return;
    }
    struct addr bound;
    if (UNLIKELY(perm->reach != REACH_ALL)) {
        if (!may_reach_port(sh, r, perm, peer)) {
            notice_closed_port(sh, s, perm, peer);
            return;
        }
        peer = as_bound(sh, peer, &bound);
    }
    if (!has_bandwidth(sh, s, TO_PEER, peer, len)) {
        drop(sh, s, CTR_over_bandwidth);
        return;
    }
    s->client_packets++;
    s->client_bytes += len;
    count(sh, CTR_peer_sent_packets);
    count_n(sh, CTR_peer_sent_bytes, len);
    io_send(sh->io, &r->io, payload, len, peer, NULL, flags);
}

void forward_channel(struct shard *sh, struct session *s, uint8_t *data, size_t len)
{
    uint16_t number;
    const uint8_t *payload;
    size_t payload_len;
    if (!channel_parse(data, len, &number, &payload, &payload_len) ||
        number > sh->config.channel_max) {
        drop(sh, s, CTR_bad_channel);
        return;
    }
    struct channel *c = channel_by_number(&sh->sessions, s, number, sh->time.now);
    if (!c) {
        drop(sh, s, CTR_no_channel);
        return;
    }
    struct permission *perm = judge_used(sh, channel_permission(&sh->sessions, c, sh->time.now));
    if (!perm) {
        drop(sh, s, CTR_no_permission);
        return;
    }
    to_peer(sh, s, perm, &c->peer, payload, payload_len, 0);
}

void forward_send(struct shard *sh, struct session *s, const struct stun_view *v)
{
    struct addr peer;
    const uint8_t *payload;
    size_t len;
    if (stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK ||
        stun_get_bytes(v, A_data, &payload, &len) != STUN_OK || peer.port == 0) {
        drop(sh, s, CTR_bad_indication);
        return;
    }
    struct permission *perm =
        judge_used(sh, permission_find(&sh->sessions, s, &peer, sh->time.now));
    if (!perm) {
        drop(sh, s, CTR_no_permission);
        return;
    }
    /* Between IPv4 and IPv4 alone: elsewhere DONT-FRAGMENT MUST be ignored (RFC 8656 13). */
    bool whole =
        stun_has(v, A_dont_fragment) && peer.family == ADDR_V4 && s->flow.client.family == ADDR_V4;
    to_peer(sh, s, perm, &peer, payload, len, whole ? IO_DONT_FRAGMENT : 0);
}

/* Where a relayed packet of another session of ours comes from, as its own client knows it. */
static void name_as_advertised(const struct shard *sh, struct addr *from)
{
    if (LIKELY(!sh->policy->renames))
        return;
    const struct pool *pool = policy_pool_at(sh->policy, from);
    if (pool) {
        uint16_t port = from->port;
        *from = pool->advertised;
        from->port = port;
    }
}

/* A copy of a payload that may be built around. */
static uint8_t *with_room(struct shard *sh, const struct io_packet *p)
{
    uint8_t *room = io_scratch(sh->io, IO_HEADROOM + p->len + IO_TAILROOM);
    return memcpy(room + IO_HEADROOM, p->data, p->len);
}

void forward_peer(struct shard *sh, struct relayed *r, struct io_packet *p)
{
    struct session *s = r->session;
    count(sh, CTR_peer_packets);
    count_n(sh, CTR_peer_bytes, p->len);
    if (UNLIKELY(p->truncated)) {
        drop(sh, s, CTR_truncated);
        return;
    }
    if (s->dying || r->deadline <= sh->time.now) {
        count(sh, CTR_no_allocation);
        return;
    }
    name_as_advertised(sh, &p->from);
    struct channel *c = channel_by_peer(&sh->sessions, s, &p->from, sh->time.now);
    struct permission *perm = c ? channel_permission(&sh->sessions, c, sh->time.now)
                                : permission_find(&sh->sessions, s, &p->from, sh->time.now);
    if (!judge_used(sh, perm)) {
        drop(sh, s, CTR_no_permission);
        return;
    }
    if (UNLIKELY(p->len > (size_t)(c ? CHANNEL_DATA_MAX : STUN_DATA_MAX))) {
        drop(sh, s, CTR_truncated);
        return;
    }
    if (!has_bandwidth(sh, s, TO_CLIENT, &p->from, p->len)) {
        drop(sh, s, CTR_over_bandwidth);
        return;
    }
    s->peer_packets++;
    s->peer_bytes += p->len;

    if (c) {
        s->flow.transport->send_channel(sh, &s->flow, c->number, p);
        return;
    }
    uint8_t txid[STUN_TXID_LEN];
    size_t len;
    shard_random(sh, txid, sizeof(txid));
    const uint8_t *message =
        stun_wrap_data(p->roomy ? p->data : with_room(sh, p), p->len, &p->from, txid, &len);
    s->flow.transport->send(sh, &s->flow, message, len);
}

/* A Data indication that carries no data but what became of it (RFC 8656 11.5). Who sent the ICMP
 * message is nobody's business; whom the datagram was meant for must be permitted. */
void forward_icmp(struct shard *sh, struct relayed *r, const struct io_icmp *icmp)
{
    struct session *s = r->session;
    struct addr peer = icmp->peer;
    count(sh, CTR_icmp_errors);
    if (!session_alive(s, sh->time.now))
        return;
    name_as_advertised(sh, &peer);
    if (!judge_used(sh, permission_find(&sh->sessions, s, &peer, sh->time.now))) {
        drop(sh, s, CTR_no_permission);
        return;
    }
    if (!has_bandwidth(sh, s, TO_CLIENT, &peer, 0)) {
        drop(sh, s, CTR_over_bandwidth);
        return;
    }
    uint8_t txid[STUN_TXID_LEN], value[8] = {0, 0, icmp->type, icmp->code};
    store32(value + 4, icmp->mtu);
    shard_random(sh, txid, sizeof(txid));
    struct stun_builder b;
    uint8_t *buf = io_scratch(sh->io, 128);
    stun_build_start(&b, buf, 128, STUN_INDICATION, STUN_DATA, txid);
    stun_put_addr(&b, A_xor_peer_address, &peer);
    stun_put_bytes(&b, A_icmp, value, sizeof(value));
    size_t len = stun_build_end(&b);
    if (len)
        s->flow.transport->send(sh, &s->flow, buf, len);
}
