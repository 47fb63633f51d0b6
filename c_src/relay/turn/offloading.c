#include "offloading.h"

#include "count.h"
#include "hop.h"
#include "judge.h"

/* Packets between two looks that make a session's channels hot: a call's voice has as many. */
enum { HOT = 40 };
/* A turn looks at so many sessions, and asks the kernel so often, at most: less than a millisecond.
 */
enum { SESSIONS_A_TURN = 1024, ASKED_A_TURN = 32 };

#define ROUND_NS  (NS_PER_S * CLOCK_SPEED)
#define ALIVE_NS  (3 * ROUND_NS)  /* a worker that does not turn for so long lets nothing through */
#define QUIET_NS  (10 * ROUND_NS) /* without a packet for so long, an entry goes */
#define VAIN_NS   (60 * ROUND_NS) /* none ever went by it: no new one for the session before */
#define ROUTES_NS (5 * ROUND_NS)  /* so old may be what is known of the next hop */

/* ------------------------------------------------------------------------------------ what may go
 */

/* A link-local address is good on one interface; the kernel's path would have to know which. */
static bool is_link_local(const struct addr *a)
{
    return a->family == ADDR_V6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* Does anything count its bytes before they may go? A user's bucket without a limit does not. */
static bool is_limited(const struct shard *sh, const struct session *s)
{
    return s->rate.unit || (s->user && shared_bucket_limits(s->user)) ||
           shared_bucket_limits(&sh->config.limits->total);
}

/* A client over plain UDP, with no proxy between, whose packets have nothing to pass but what an
 * entry has: no limit, and nobody who looks at them. */
static bool session_may(const struct shard *sh, const struct session *s)
{
    const struct flow *f = &s->flow;
    struct way_end *e = way_resolve(&sh->ways, f->way);
    return session_alive(s, sh->time.now) && !s->ended && !s->tcp && !sh->offloading.held &&
           !s->look && !is_limited(sh, s) && f->transport->kind == CTL_TRANSPORT_UDP && e &&
           !proxied_of(e) && !is_link_local(&f->client);
}

/* All that a packet on this channel needs, looked at as for a packet; or NULL. Peers at addresses
 * of this host are asked for with each packet, which is the sockets' way. */
static struct permission *channel_may(struct shard *sh, struct session *s, struct channel *c)
{
    if (c->number > sh->config.channel_max || is_link_local(&c->peer) ||
        !session_relayed(s, c->peer.family, sh->time.now))
        return NULL;
    struct permission *p = judge_used(sh, channel_permission(&sh->sessions, c, sh->time.now));
    return p && p->reach == REACH_ALL ? p : NULL;
}

/* As the kernel's clock has it. */
static uint64_t channel_until(struct shard *sh, struct session *s, const struct channel *c,
                              const struct permission *p)
{
    const struct relayed *r = session_relayed(s, c->peer.family, sh->time.now);
    return clock_wait(MIN(MIN(r->deadline, p->timer.deadline), c->timer.deadline));
}

/* ------------------------------------------------------------------------------------- an entry */

/* One direction: whom it comes from and where it comes to, and the same as it leaves. */
struct leg {
    struct addr from, at, out, to;
    uint16_t channel_in, channel_out;
};

static struct leg leg_of(struct session *s, const struct channel *c, enum direction d)
{
    struct addr relayed = relayed_local(&s->relayed[c->peer.family == ADDR_V6]);
    const struct flow *f = &s->flow;
    if (d == TO_PEER)
        return (struct leg){f->client, f->server, relayed, c->peer, c->number, 0};
    return (struct leg){c->peer, relayed, f->server, f->client, 0, c->number};
}

static struct offload_key key_of(const struct leg *l)
{
    struct offload_key k = {.source_port = htons(l->from.port),
                            .target_port = htons(l->at.port),
                            .channel = htons(l->channel_in),
                            .family = l->from.family};
    memcpy(k.source, l->from.ip, 16);
    memcpy(k.target, l->at.ip, 16);
    return k;
}

static void set_hop(struct offload_entry *e, const struct hop *h)
{
    e->interface = h->interface;
    e->mtu = h->mtu;
    memcpy(e->from_mac, h->from_mac, 6);
    memcpy(e->to_mac, h->to_mac, 6);
}

static bool has_hop(const struct offload_entry *e, const struct hop *h)
{
    return e->interface == h->interface && e->mtu == h->mtu &&
           memcmp(e->from_mac, h->from_mac, 6) == 0 && memcmp(e->to_mac, h->to_mac, 6) == 0;
}

/* XDP has to know who is next on the link; for TC the kernel finds out itself. */
static bool find_hop(struct shard *sh, const struct leg *l, struct hop *h)
{
    sh->offloading.asked++;
    bool by_xdp = offload_is_by(sh->sessions.offloads.kernel) == OFFLOAD_XDP;
    if (!hop_find(sh->offloading.hops, &l->out, &l->to, h) || (by_xdp && !h->met))
        return false;
    if (!by_xdp)
        memset(h->to_mac, 0, 6);
    return true;
}

/* Not without a way there, or without room: then the next look tries again. */
static void put(struct shard *sh, struct session *s, const struct channel *c, enum direction d,
                uint64_t until)
{
    struct leg l = leg_of(s, c, d);
    struct offload_key key = key_of(&l);
    struct offload_entry e = {.until = until,
                              .epoch = sh->policy_number,
                              .up_next = clock_wait(sh->time.now) + OFFLOAD_UP_NS,
                              .source_port = htons(l.out.port),
                              .target_port = htons(l.to.port),
                              .channel = htons(l.channel_out),
                              .family = l.out.family,
                              .hops = offload_hops(sh->config.offload, l.out.family),
                              .worker = sh->config.index};
    struct hop h;
    if (!find_hop(sh, &l, &h))
        return;
    set_hop(&e, &h);
    memcpy(e.source, l.out.ip, 16);
    memcpy(e.target, l.to.ip, 16);
    struct offloaded *o = offloads_put(&sh->sessions.offloads, s, &s->offloaded, &key, &e);
    if (!o)
        return;
    o->channel = c->number;
    o->direction = (uint8_t)d;
    count(sh, CTR_offload_entries);
}

static bool has(const struct session *s, const struct channel *c, enum direction d)
{
    for (const struct offloaded *o = s->offloaded; o; o = o->next)
        if (o->channel == c->number && o->direction == d)
            return true;
    return false;
}

/* Both directions. */
static void put_channel(struct shard *sh, struct session *s, struct channel *c)
{
    const struct permission *p = channel_may(sh, s, c);
    for (unsigned d = TO_PEER; p && d <= TO_CLIENT; d++)
        if (!has(s, c, d))
            put(sh, s, c, d, channel_until(sh, s, c, p));
}

/* -------------------------------------------------------------------------------- looking at one
 */

/* The channels that were spoken on last are known by their places. */
static void put_recent(struct shard *sh, struct session *s)
{
    for (unsigned i = 0; i < 2 * RECENT_CHANNELS; i++) {
        struct channel *c =
            i < RECENT_CHANNELS ? s->recent_number[i] : s->recent_peer[i - RECENT_CHANNELS];
        if (c && c->by_number.link && c->session == s && c->timer.deadline > sh->time.now)
            put_channel(sh, s, c);
    }
}

/* Does the way that it leads still stand? Asked now and then. */
static bool leads_there(struct shard *sh, struct session *s, const struct channel *c,
                        struct offloaded *o)
{
    if (o->found_at + ROUTES_NS > sh->time.now)
        return true;
    struct leg l = leg_of(s, c, (enum direction)o->direction);
    struct hop h;
    o->found_at = sh->time.now;
    return find_hop(sh, &l, &h) && has_hop(o->entry, &h);
}

static bool is_quiet(struct shard *sh, struct session *s, struct offloaded *o)
{
    if (o->quiet_since + QUIET_NS > sh->time.now)
        return false;
    if (!o->used)
        s->offload_again = sh->time.now + VAIN_NS;
    return true;
}

/* Everything that lets its packets through, as it is now; false: nothing does. */
static bool renew(struct shard *sh, struct session *s, struct offloaded *o)
{
    struct channel *c = channel_by_number(&sh->sessions, s, o->channel, sh->time.now);
    const struct permission *p = c ? channel_may(sh, s, c) : NULL;
    if (!p || offloaded_is_void(o) || is_quiet(sh, s, o) || !leads_there(sh, s, c, o))
        return false;
    OFFLOAD_SET(o->entry->until, channel_until(sh, s, c, p));
    OFFLOAD_SET(o->entry->epoch, sh->policy_number);
    return true;
}

/* Voids what does not hold any more, and takes apart what is void. */
static void review(struct shard *sh, struct session *s, bool may)
{
    uint32_t before = sh->sessions.offloads.live;
    for (struct offloaded *o = s->offloaded; o; o = o->next)
        if (!may || !renew(sh, s, o))
            OFFLOAD_SET(o->entry->number, 0);
    session_collect(&sh->sessions, s); /* what went by these until now */
    session_drop_offloaded(&sh->sessions, s, false);
    count_n(sh, CTR_offload_entries_ended, before - sh->sessions.offloads.live);
}

static void look_at(struct shard *sh, struct session *s)
{
    bool may = session_may(sh, s);
    if (LIKELY(!may && !s->offloaded))
        return;
    session_collect(&sh->sessions, s);
    review(sh, s, may);
    uint64_t seen = s->client_packets + s->peer_packets;
    uint64_t grown = seen - MIN(s->offload_seen, seen);
    s->offload_seen = seen;
    if (may && grown >= HOT && s->offload_again <= sh->time.now)
        put_recent(sh, s);
}

/* ---------------------------------------------------------------------------------------- rounds
 */

/* What went by the kernel's path counts as what came and was sent. */
static void count_sums(struct shard *sh)
{
    struct offloads *t = &sh->sessions.offloads;
    uint64_t out = t->sum[TO_PEER].packets, in = t->sum[TO_CLIENT].packets;
    uint64_t out_bytes = t->sum[TO_PEER].bytes, in_bytes = t->sum[TO_CLIENT].bytes;
    count_n(sh, CTR_offload_packets, out + in);
    count_n(sh, CTR_client_packets, out);
    count_n(sh, CTR_client_bytes, out_bytes + out * CHANNEL_HEADER_LEN);
    count_n(sh, CTR_peer_sent_packets, out);
    count_n(sh, CTR_peer_sent_bytes, out_bytes);
    count_n(sh, CTR_peer_packets, in);
    count_n(sh, CTR_peer_bytes, in_bytes);
    count_n(sh, CTR_client_sent_packets, in);
    count_n(sh, CTR_client_sent_bytes, in_bytes + in * CHANNEL_HEADER_LEN);
    memset(t->sum, 0, sizeof(t->sum));
}

static void begin_round(struct shard *sh)
{
    sh->offloading.round = sh->time.now + ROUND_NS;
    sh->offloading.left = sh->sessions.session_slab.touched;
    sh->offloading.at = 0;
    count_sums(sh);
}

void offloading_turn(struct shard *sh)
{
    struct offloads *t = &sh->sessions.offloads;
    t->now = sh->time.now;
    OFFLOAD_SET(t->governor->until, clock_wait(sh->time.now + ALIVE_NS));
    if (!sh->offloading.left && sh->offloading.round <= sh->time.now)
        begin_round(sh);
    unsigned sessions = 0;
    sh->offloading.asked = 0;
    while (sh->offloading.left && sessions++ < SESSIONS_A_TURN &&
           sh->offloading.asked < ASKED_A_TURN) {
        struct session *s = slab_at(&sh->sessions.session_slab, sh->offloading.at++);
        sh->offloading.left--;
        if (s->by_tuple.link) /* else it is free, or dying */
            look_at(sh, s);
    }
}

void offloading_hold(struct shard *sh, bool held)
{
    struct offloads *t = &sh->sessions.offloads;
    sh->offloading.held = held;
    for (uint32_t i = 0; i < t->touched; i++)
        OFFLOAD_SET(t->all[i].entry->number, 0);
}
