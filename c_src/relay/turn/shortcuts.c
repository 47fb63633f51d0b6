#include "shortcuts.h"

#include "count.h"
#include "hand_over.h"
#include "judge.h"
#include "meter.h"
#include "names.h"
#include "post.h"

/* So long after it was asked for in vain it is asked for again; so long before it is over. */
#define AGAIN_NS (200 * NS_PER_MS)
#define EARLY_NS (30 * NS_PER_S)
/* One that was asked for is forgotten after so long without an answer. */
#define FORGET_NS (10 * NS_PER_S)

/* -------------------------------------------------------------------------------- asking for it */

static void seek(struct shard *sh, struct shortcut *sc, const struct outbound *o)
{
    uint64_t other = port_session(o->pool, o->peer->port);
    unsigned to = (unsigned)(other >> 56);
    struct mail_seek m = {.session = o->session->id,
                          .other = other,
                          .from = sh->config.index,
                          .relayed = relayed_local(o->relayed),
                          .bound = name_as_bound(o->pool, o->peer),
                          .peer = *o->peer};
    sc->ask_at = sh->time.now + AGAIN_NS;
    if (!sc->to.end)
        timer_set(&sh->sessions.timers, &sc->timer, sh->time.now + FORGET_NS);
    if (!other || to >= sh->config.workers)
        return; /* it is on its way out, or not there yet */
    if (to == sh->config.index)
        shortcut_asked(sh, &m);
    else
        post_letter(sh, to, MAIL_SEEK, &m, sizeof(m), NULL, 0); /* or a later packet asks */
}

/* A link-local address is good on one interface, which only the worker that heard from it knows. */
static bool is_link_local(const struct addr *a)
{
    return a->family == ADDR_V6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* The listener of that client, where it is known to every worker and like for all of them; else
 * NULL. */
static const struct listener *common_way(const struct shard *sh, const struct flow *f)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    if (!e || f->transport->kind != CTL_TRANSPORT_UDP || proxied_of(e) || is_link_local(&f->client))
        return NULL;
    return e->listener;
}

/* Then all that comes for it is to pass its own worker. */
static bool is_looked_at(const struct session *s, uint64_t now)
{
    return s->look && s->look->until > now;
}

/* All that lets packets from that relayed address in, looked at as for a packet. False where
 * something is missing. */
static bool describe(struct shard *sh, struct session *s, const struct mail_seek *m,
                     struct shortcut_end *out)
{
    uint64_t now = sh->time.now;
    const struct relayed *r = session_relayed(s, m->bound.family, now);
    struct addr local = r ? relayed_local(r) : m->relayed;
    if (!r || !addr_equal(&local, &m->bound))
        return false; /* the port is another's by now */
    out->from = m->relayed;
    name_as_advertised(sh, &out->from);
    struct channel *c = channel_by_peer(&sh->sessions, s, &out->from, now);
    struct permission *perm = c ? channel_permission(&sh->sessions, c, now)
                                : permission_find(&sh->sessions, s, &out->from, now);
    perm = judge_used(sh, perm);
    if (!perm || is_looked_at(s, now) || !session_far_end(&sh->sessions, s))
        return false;
    out->end = s->far;
    out->number = far_end_number(s->far);
    out->until = MIN(MIN(r->deadline, perm->timer.deadline), c ? c->timer.deadline : UINT64_MAX);
    out->policy = &sh->policy_number;
    out->policy_number = sh->policy_number;
    out->channel = c ? c->number : 0;
    out->rate = s->rate;
    out->pace = s->pace;
    out->user = s->user;
    return true;
}

void shortcut_asked(struct shard *sh, const struct mail_seek *m)
{
    struct session *s = session_by_id(&sh->sessions, m->other);
    if (!s || !session_alive(s, sh->time.now) || !sh->config.shortcuts)
        return;
    struct mail_shortcut out = {.session = m->session, .peer = m->peer};
    const struct listener *l = common_way(sh, &s->flow);
    if (!l || !describe(sh, s, m, &out.to))
        return;
    out.listener = l->id;
    out.client = s->flow.client;
    out.server = s->flow.server;
    far_end_hold(out.to.end);
    if (m->from == sh->config.index)
        shortcut_told(sh, &out);
    else if (!post_letter(sh, m->from, MAIL_SHORTCUT, &out, sizeof(out), NULL, 0))
        far_end_release(out.to.end); /* a later packet asks again */
}

void shortcut_told(struct shard *sh, const struct mail_shortcut *m)
{
    struct session *s = session_by_id(&sh->sessions, m->session);
    struct shortcut *sc = s ? shortcut_find(&sh->sessions.shortcuts, s, &m->peer) : NULL;
    struct flow f;
    if (!sc || !shard_reach(sh, m->listener, CTL_TRANSPORT_UDP, &m->client, &m->server, &f)) {
        far_end_release(m->to.end);
        return;
    }
    if (!sc->to.end)
        count(sh, CTR_shortcuts);
    shortcut_learn(&sh->sessions.shortcuts, sc, &m->to, &f);
    sc->ask_at = MAX(sh->time.now + AGAIN_NS, m->to.until - MIN(m->to.until, EARLY_NS));
    timer_set(&sh->sessions.timers, &sc->timer, m->to.until);
}

/* ---------------------------------------------------------------------------------- taking one */

static bool holds(const struct shard *sh, const struct shortcut_end *to)
{
    return to->end && to->until > sh->time.now && far_end_number(to->end) == to->number &&
           atomic_load_explicit(to->policy, memory_order_acquire) == to->policy_number;
}

/* The session's to that peer, found or made, and asked for where it is time to. NULL without room
 * for it. */
static struct shortcut *find(struct shard *sh, const struct outbound *o)
{
    struct shortcut *sc = o->channel ? channel_shortcut(&sh->sessions, o->channel) : NULL;
    if (!sc)
        sc = session_shortcut(&sh->sessions, o->session, o->peer);
    if (!sc)
        return NULL;
    if (sc->to.end && !holds(sh, &sc->to)) {
        shortcut_lose(&sh->sessions.shortcuts, sc);
        count(sh, CTR_shortcuts_ended);
        sc->ask_at = 0;
    }
    if (UNLIKELY(sc->ask_at <= sh->time.now))
        seek(sh, sc, o);
    return sc;
}

/* As the other's worker would. */
static enum counter beyond(struct shard *sh, const struct shortcut_end *to, size_t len)
{
    if (UNLIKELY(!bucket_take(&to->end->paced, to->pace, sh->time.now, 1)))
        return CTR_over_packet_rate;
    bool has_bandwidth = LIKELY(!meter_limits_any(sh, to->rate, to->user)) ||
                         meter_take_of(sh, &to->end->bucket, to->rate, to->user, TO_CLIENT,
                                       meter_units(&to->from, len));
    return has_bandwidth ? METER_PASSES : CTR_over_bandwidth;
}

static void drop(struct shard *sh, struct far_end *end, enum counter reason, uint64_t n)
{
    atomic_fetch_add_explicit(&end->drops[reason - CTR_no_channel], n, memory_order_relaxed);
    count_n(sh, reason, n);
}

bool shortcut_take(struct shard *sh, const struct outbound *o)
{
    if (!sh->config.shortcuts || o->len > STUN_DATA_MAX)
        return false;
    struct shortcut *sc = find(sh, o);
    if (!sc || !sc->to.end)
        return false;
    const struct shortcut_end *to = &sc->to;
    count(sh, CTR_peer_packets);
    count_n(sh, CTR_peer_bytes, o->len);
    count(sh, CTR_shortcut_packets);
    enum counter over = beyond(sh, to, o->len);
    if (UNLIKELY(over != METER_PASSES)) {
        drop(sh, to->end, over, 1);
        return true;
    }
    far_end_count(to->end, 1, o->len);
    const struct io_packet p = {
        .data = (uint8_t *)(uintptr_t)o->payload, .len = o->len, .roomy = to->channel != 0};
    hand_over(sh, &sc->flow, to->channel, &to->from, &p);
    return true;
}

unsigned shortcut_peers(const struct shard *sh, const struct session *s)
{
    unsigned n = 0;
    for (const struct shortcut *sc = sh->config.shortcuts ? s->shortcuts : NULL; sc; sc = sc->next)
        n += holds(sh, &sc->to);
    return n;
}

/* ----------------------------------------------------------------------------- what was not sent
 */

bool shortcut_unsent(struct shard *sh, const struct flow *f, enum counter reason, uint64_t n,
                     uint64_t payload)
{
    const struct shortcut *sc = shortcut_by_flow(&sh->sessions.shortcuts, f);
    if (!sc)
        return false;
    far_end_count(sc->to.end, -n, -payload);
    drop(sh, sc->to.end, reason, n);
    return true;
}
