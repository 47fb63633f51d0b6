/*
 * The relaying itself: client to peer (ChannelData, Send), peer to client (ChannelData, Data).
 * The payload is not moved: headers are stripped by sending from further in, and added in the room
 * before it; only a Data indication around a packet without room is built of a copy.
 * RFC 8656 11.2, 11.3, 12.5, 12.6. No check here asks anybody else.
 */
#include "forward.h"

#include "capturing.h"
#include "count.h"
#include "hand_over.h"
#include "judge.h"
#include "looking.h"
#include "meter.h"
#include "names.h"
#include "notice.h"
#include "shortcuts.h"

enum {
    CHANNEL_DATA_MAX = 65507 - CHANNEL_HEADER_LEN, /* what UDP over IPv4 takes */
};

/* For whom or from whom, NULL where that is not known; or on which channel. */
static void note_drop(struct shard *sh, struct session *s, enum counter reason,
                      const struct addr *peer, uint16_t channel)
{
    if (UNLIKELY(s->look))
        looking_drop(sh, s, reason, peer, channel);
}

COLD static void drop(struct shard *sh, struct session *s, enum counter reason,
                      const struct addr *peer, uint16_t channel)
{
    count_drops(sh, s, reason, 1);
    note_drop(sh, s, reason, peer, channel);
}

/* Is it within all limits? Dropped where it is not. */
static bool within_limits(struct shard *sh, struct session *s, enum direction d,
                          const struct addr *peer, size_t len)
{
    enum counter over = meter_packet(sh, s, d, meter_units(peer, len));
    if (over == METER_PASSES)
        return true;
    drop(sh, s, over, peer, 0);
    return false;
}

/* Apart, so that those that nobody limits or looks at do not pay for it. False: it goes no
 * further. */
__attribute__((noinline)) static bool
detour_to_peer(struct shard *sh, struct session *s, const struct relayed *r,
               const struct channel *c, const struct addr *peer, const uint8_t *payload, size_t len)
{
    if (s->look) {
        looking_packet(sh, s, TO_PEER, peer, payload, len);
        capturing_from_client(sh, s, c, payload, len);
    }
    if (!within_limits(sh, s, TO_PEER, peer, len))
        return false;
    if (s->look)
        capturing_to_peer(sh, s, r, peer, payload, len);
    return true;
}

/* Likewise; false also where it has been handed over here. */
__attribute__((noinline)) static bool detour_to_client(struct shard *sh, struct session *s,
                                                       const struct relayed *r,
                                                       const struct channel *c,
                                                       const struct io_packet *p)
{
    if (s->look) {
        looking_packet(sh, s, TO_CLIENT, &p->from, p->data, p->len);
        capturing_from_peer(sh, s, r, p);
    }
    if (!within_limits(sh, s, TO_CLIENT, &p->from, p->len))
        return false;
    if (!s->look || !capturing_hand_over(sh, s, c, p))
        return true;
    s->peer_packets++;
    s->peer_bytes += p->len;
    return false;
}

/* By a shortcut to the client that is relayed there, if there is one. */
__attribute__((noinline)) static bool by_shortcut(struct shard *sh, const struct relayed *r,
                                                  const struct pool *pool, struct channel *c,
                                                  const struct addr *peer, const uint8_t *payload,
                                                  size_t len)
{
    const struct outbound o = {.session = r->session,
                               .relayed = r,
                               .pool = pool,
                               .channel = c,
                               .peer = peer,
                               .payload = payload,
                               .len = len};
    return shortcut_take(sh, &o);
}

/* To the peer, by a channel or by a Send (NULL). The permission has been found alive. */
static void to_peer(struct shard *sh, struct session *s, const struct permission *perm,
                    struct channel *c, const struct addr *peer, const uint8_t *payload, size_t len,
                    unsigned flags)
{
    struct relayed *r = session_relayed(s, peer->family, sh->time.now);
    if (UNLIKELY(!r)) {
        drop(sh, s, CTR_peer_family, peer, 0);
        return;
    }
    const struct pool *pool = NULL; /* of ours, where another is relayed at this address */
    if (UNLIKELY(perm->reach != REACH_ALL)) {
        struct addr self = relayed_local(r);
        pool = policy_pool_at(sh->policy, peer);
        if (!policy_allows_at(sh->policy, pool, (enum reach)perm->reach, peer, &self)) {
            note_drop(sh, s, CTR_forbidden_peer, peer, 0);
            notice_closed_port(sh, s, perm, peer);
            return;
        }
    }
    if (UNLIKELY(meter_limits(sh, s)) && !detour_to_peer(sh, s, r, c, peer, payload, len))
        return;
    s->client_packets++;
    s->client_bytes += len;
    count(sh, CTR_peer_sent_packets);
    count_n(sh, CTR_peer_sent_bytes, len);
    struct addr bound;
    if (UNLIKELY(pool != NULL)) {
        if (!flags && by_shortcut(sh, r, pool, c, peer, payload, len))
            return;
        bound = name_as_bound(pool, peer);
        peer = &bound;
    }
    io_send(sh->io, &r->io, payload, len, peer, NULL, flags);
}

void forward_channel(struct shard *sh, struct session *s, uint8_t *data, size_t len)
{
    uint16_t number;
    const uint8_t *payload;
    size_t payload_len;
    if (!channel_parse(data, len, &number, &payload, &payload_len) ||
        number > sh->config.channel_max) {
        drop(sh, s, CTR_bad_channel, NULL, 0);
        return;
    }
    struct channel *c = channel_by_number(&sh->sessions, s, number, sh->time.now);
    if (!c) {
        drop(sh, s, CTR_no_channel, NULL, number);
        return;
    }
    struct permission *perm = judge_used(sh, channel_permission(&sh->sessions, c, sh->time.now));
    if (!perm) {
        drop(sh, s, CTR_no_permission, &c->peer, 0);
        return;
    }
    to_peer(sh, s, perm, c, &c->peer, payload, payload_len, 0);
}

void forward_send(struct shard *sh, struct session *s, const struct stun_view *v)
{
    struct addr peer;
    const uint8_t *payload;
    size_t len;
    if (stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK ||
        stun_get_bytes(v, A_data, &payload, &len) != STUN_OK || peer.port == 0) {
        drop(sh, s, CTR_bad_indication, NULL, 0);
        return;
    }
    struct permission *perm =
        judge_used(sh, permission_find(&sh->sessions, s, &peer, sh->time.now));
    if (!perm) {
        drop(sh, s, CTR_no_permission, &peer, 0);
        return;
    }
    if (UNLIKELY(s->detour && s->look))
        capturing_send(sh, s, v);
    /* Between IPv4 and IPv4 alone: elsewhere DONT-FRAGMENT MUST be ignored (RFC 8656 13). */
    bool whole =
        stun_has(v, A_dont_fragment) && peer.family == ADDR_V4 && s->flow.client.family == ADDR_V4;
    to_peer(sh, s, perm, NULL, &peer, payload, len, whole ? IO_DONT_FRAGMENT : 0);
}

void forward_peer(struct shard *sh, struct relayed *r, struct io_packet *p)
{
    struct session *s = r->session;
    count(sh, CTR_peer_packets);
    count_n(sh, CTR_peer_bytes, p->len);
    if (UNLIKELY(p->truncated)) {
        drop(sh, s, CTR_truncated, &p->from, 0);
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
        drop(sh, s, CTR_no_permission, &p->from, 0);
        return;
    }
    if (UNLIKELY(p->len > (size_t)(c ? CHANNEL_DATA_MAX : STUN_DATA_MAX))) {
        drop(sh, s, CTR_truncated, &p->from, 0);
        return;
    }
    if (UNLIKELY(meter_limits(sh, s)) && !detour_to_client(sh, s, r, c, p))
        return;
    s->peer_packets++;
    s->peer_bytes += p->len;
    hand_over(sh, &s->flow, c ? c->number : 0, &p->from, p);
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
        drop(sh, s, CTR_no_permission, &peer, 0);
        return;
    }
    if (!within_limits(sh, s, TO_CLIENT, &peer, 0))
        return;
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
