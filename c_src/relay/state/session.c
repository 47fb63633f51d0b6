#include "session.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "crypto.h"

bool sessions_init(struct sessions *t, const struct ways *ways, uint32_t sessions_max,
                   uint32_t peers_max, uint64_t now)
{
    memset(t, 0, sizeof(*t));
    t->ways = ways;
    list_init(&t->gone);
    list_init(&t->ended);
    timers_init(&t->timers, now);
    return slab_init(&t->session_slab, sizeof(struct session), sessions_max) &&
           slab_init(&t->move_slab, sizeof(struct move), sessions_max) &&
           slab_init(&t->grant_slab, sizeof(struct grant), sessions_max) &&
           slab_init(&t->drops_slab, SESSION_DROPS * sizeof(uint64_t), sessions_max) &&
           slab_init(&t->permission_slab, sizeof(struct permission), peers_max) &&
           slab_init(&t->channel_slab, sizeof(struct channel), peers_max) &&
           table_init(&t->by_tuple, sessions_max) && table_init(&t->by_id, sessions_max) &&
           table_init(&t->permissions, peers_max) && table_init(&t->channel_numbers, peers_max) &&
           table_init(&t->channel_peers, peers_max) && shortcuts_init(&t->shortcuts, peers_max) &&
           far_ends_init(&t->far_ends, 2 * sessions_max); /* some are left behind for a while */
}

/* What it has by malloc. */
static void session_let_go(struct sessions *t, struct session *s)
{
    session_set_note(s, NULL, 0);
    session_end_look(t, s);
}

void sessions_destroy(struct sessions *t)
{
    for (uint32_t i = 0; i < t->session_slab.touched; i++)
        session_let_go(t, slab_at(&t->session_slab, i));
    slab_destroy(&t->session_slab);
    slab_destroy(&t->move_slab);
    slab_destroy(&t->grant_slab);
    slab_destroy(&t->drops_slab);
    slab_destroy(&t->permission_slab);
    slab_destroy(&t->channel_slab);
    table_destroy(&t->by_tuple);
    table_destroy(&t->by_id);
    table_destroy(&t->permissions);
    table_destroy(&t->channel_numbers);
    table_destroy(&t->channel_peers);
    shortcuts_destroy(&t->shortcuts);
    far_ends_destroy(&t->far_ends);
    offloads_destroy(&t->offloads);
}

/* ------------------------------------------------------------------------------------ sessions */

static uint32_t id_hash(const struct sessions *t, uint64_t id)
{
    return table_hash(&t->by_id, &id, sizeof(id));
}

struct session *session_look_up(struct sessions *t, const struct flow *f)
{
    uint32_t h = flow_hash(&t->by_tuple, f);
    struct table_node *n;
    table_for_each(n, &t->by_tuple, h)
    {
        struct session *s = container_of(n, struct session, by_tuple);
        if (!flow_equal(&s->flow, f))
            continue;
        flow_learn_link(&s->flow, f);
        return *session_recent(t, &f->client) = s;
    }
    return NULL;
}

struct session *session_by_id(const struct sessions *t, uint64_t id)
{
    uint32_t h = id_hash(t, id);
    struct table_node *n;
    table_for_each(n, &t->by_id, h)
    {
        struct session *s = container_of(n, struct session, by_id);
        if (s->id == id && !s->dying)
            return s;
    }
    return NULL;
}

struct session *session_create(struct sessions *t, uint64_t id, const struct flow *f)
{
    struct session *s = slab_alloc(&t->session_slab);
    if (!s)
        return NULL;
    s->id = id;
    flow_keep(t->ways, &s->flow, f);
    list_init(&s->permissions);
    list_init(&s->channels);
    list_init(&s->in_gone);
    for (int i = 0; i < 2; i++)
        s->relayed[i].session = s;
    table_insert(&t->by_tuple, &s->by_tuple, flow_hash(&t->by_tuple, f));
    table_insert(&t->by_id, &s->by_id, id_hash(t, id));
    return s;
}

static void drop_shortcut(struct sessions *t, struct shortcut *sc)
{
    timer_clear(&t->timers, &sc->timer);
    sc->session->shortcut_count--;
    shortcut_remove(&t->shortcuts, sc);
}

void session_ended(struct sessions *t, struct session *s)
{
    s->ended = true;
    s->expires = 0;
    list_add_tail(&t->ended, &s->in_gone);
}

void session_kill(struct sessions *t, struct session *s, enum gone_reason reason)
{
    s->dying = true;
    s->reason = (uint8_t)reason;
    timer_clear(&t->timers, &s->timer);
    table_remove(&t->by_tuple, &s->by_tuple);
    session_changed(s);
    while (s->shortcuts)
        drop_shortcut(t, s->shortcuts);
    while (!list_empty(&s->channels))
        channel_remove(t, container_of(s->channels.next, struct channel, in_session));
    while (!list_empty(&s->permissions))
        permission_remove(t, container_of(s->permissions.next, struct permission, in_session));
}

void session_free(struct sessions *t, struct session *s)
{
    session_drop_grant(t, s);
    if (s->far)
        far_end_leave(&t->far_ends, s->far);
    session_let_go(t, s);
    session_drop_offloaded(t, s, true);
    table_remove(&t->by_id, &s->by_id);
    flow_drop(t->ways, &s->flow);
    session_drop_move(t, s);
    if (s->drops)
        slab_free(&t->drops_slab, s->drops);
    slab_free(&t->session_slab, s);
}

void session_learn_way(struct sessions *t, struct session *s, const struct flow *seen)
{
    if (seen->way.number != s->flow.way.number)
        session_changed(s);
    flow_learn_way(t->ways, &s->flow, seen);
}

void session_set_timer(struct sessions *t, struct session *s)
{
    uint64_t next = UINT64_MAX;
    s->expires = 0;
    for (int i = 0; i < 2; i++) {
        const struct relayed *r = &s->relayed[i];
        if (!r->open || r->io.removing)
            continue;
        next = MIN(next, r->deadline);
        s->expires = MAX(s->expires, r->deadline);
    }
    if (s->tcp && s->tcp->open)
        next = s->expires = s->tcp->deadline;
    if (s->expires)
        timer_set(&t->timers, &s->timer, next);
    else
        timer_clear(&t->timers, &s->timer);
}

void session_set_move(struct sessions *t, struct session *s, const struct flow *f, unsigned home)
{
    session_drop_move(t, s);
    s->move = slab_alloc(&t->move_slab);
    s->move->home = home;
    flow_keep(t->ways, &s->move->flow, f);
}

void session_commit_move(struct sessions *t, struct session *s)
{
    session_changed(s);
    table_remove(&t->by_tuple, &s->by_tuple);
    flow_drop(t->ways, &s->flow);
    flow_keep(t->ways, &s->flow, &s->move->flow);
    s->flow_home = s->move->home;
    session_drop_move(t, s);
    table_insert(&t->by_tuple, &s->by_tuple, flow_hash(&t->by_tuple, &s->flow));
}

void session_drop_move(struct sessions *t, struct session *s)
{
    if (!s->move)
        return;
    flow_drop(t->ways, &s->move->flow);
    slab_free(&t->move_slab, s->move);
    s->move = NULL;
}

void session_set_grant(struct sessions *t, struct session *s, const struct grant *g)
{
    if (!s->grant)
        s->grant = slab_alloc(&t->grant_slab);
    if (s->grant)
        *s->grant = *g;
}

void session_drop_grant(struct sessions *t, struct session *s)
{
    if (!s->grant)
        return;
    crypto_zero(s->grant, sizeof(*s->grant));
    slab_free(&t->grant_slab, s->grant);
    s->grant = NULL;
}

void session_set_note(struct session *s, const uint8_t *bytes, uint32_t len)
{
    struct session_note *n = len ? malloc(sizeof(*n) + len) : NULL;
    if (n) {
        n->len = len;
        memcpy(n->bytes, bytes, len);
    }
    free(s->note);
    s->note = n;
}

bool session_begin_look(struct sessions *t, struct session *s, uint64_t now)
{
    s->look = t->looks < SIGHTS_MAX ? look_begin(now) : NULL;
    if (!s->look)
        return false;
    t->looks++;
    session_set_detour(s);
    session_changed(s);
    return true;
}

void session_end_look(struct sessions *t, struct session *s)
{
    if (!s->look)
        return;
    session_end_capture(t, s);
    look_free(s->look);
    s->look = NULL;
    t->looks--;
    session_set_detour(s);
}

bool session_begin_capture(struct sessions *t, struct session *s, struct capture *c)
{
    if (c && t->captures == CAPTURES_MAX) {
        capture_end(c);
        return false;
    }
    s->look->capture = c;
    t->captures += c != NULL;
    return c != NULL;
}

void session_end_capture(struct sessions *t, struct session *s)
{
    if (!s->look || !s->look->capture)
        return;
    capture_end(s->look->capture);
    s->look->capture = NULL;
    t->captures--;
}

void session_forget_family(struct sessions *t, struct session *s, uint8_t family)
{
    struct list *at, *next;
    session_changed(s);
    list_for_each_safe (at, next, &s->channels) {
        struct channel *c = container_of(at, struct channel, in_session);
        if (c->peer.family == family)
            channel_remove(t, c);
    }
    list_for_each_safe (at, next, &s->permissions) {
        struct permission *p = container_of(at, struct permission, in_session);
        if (p->ip.family == family)
            permission_remove(t, p);
    }
}

/* ------------------------------------------------------------------------------------- relayed */

static struct addr with_port(struct addr a, uint16_t port)
{
    a.port = port;
    return a;
}

struct addr relayed_local(const struct relayed *r)
{
    return with_port(r->pool->local, r->port);
}

struct addr relayed_advertised(const struct relayed *r)
{
    return with_port(r->pool->advertised, r->port);
}

/* --------------------------------------------------------------------------------- permissions */

struct peer_key {
    uint64_t session;
    uint8_t ip[16];
    uint16_t port;
    uint8_t family;
    uint8_t zero[5];
};

static uint32_t peer_hash(const struct table *t, const struct session *s, const struct addr *peer,
                          bool with_the_port)
{
    struct peer_key key = {
        .session = s->id, .port = with_the_port ? peer->port : 0, .family = peer->family};
    memcpy(key.ip, peer->ip, 16);
    return table_hash(t, &key, sizeof(key));
}

static struct permission *permission_lookup(const struct sessions *t, const struct session *s,
                                            const struct addr *peer, uint32_t h)
{
    struct table_node *n;
    table_for_each(n, &t->permissions, h)
    {
        struct permission *p = container_of(n, struct permission, by_ip);
        if (p->session == s && addr_ip_equal(&p->ip, peer))
            return p;
    }
    return NULL;
}

struct permission *permission_find(const struct sessions *t, const struct session *s,
                                   const struct addr *peer, uint64_t now)
{
    struct permission *p =
        permission_lookup(t, s, peer, peer_hash(&t->permissions, s, peer, false));
    return p && p->timer.deadline > now ? p : NULL;
}

bool permission_exists(const struct sessions *t, const struct session *s, const struct addr *peer)
{
    return permission_lookup(t, s, peer, peer_hash(&t->permissions, s, peer, false)) != NULL;
}

static struct sessions *sessions_of(struct timers *w)
{
    return container_of(w, struct sessions, timers);
}

static void permission_due(struct timers *w, struct timer *t)
{
    permission_remove(sessions_of(w), container_of(t, struct permission, timer));
}

struct permission *permission_set(struct sessions *t, struct session *s, const struct addr *peer,
                                  uint64_t deadline)
{
    uint32_t h = peer_hash(&t->permissions, s, peer, false);
    struct permission *p = permission_lookup(t, s, peer, h);
    if (!p) {
        p = slab_alloc(&t->permission_slab);
        if (!p)
            return NULL;
        p->session = s;
        p->ip = *peer;
        p->ip.port = 0;
        p->timer.due = permission_due;
        table_insert(&t->permissions, &p->by_ip, h);
        list_init(&p->in_session);
        list_add_tail(&s->permissions, &p->in_session);
        s->permission_count++;
    }
    if (deadline < p->timer.deadline)
        session_changed(s);
    timer_set(&t->timers, &p->timer, deadline);
    return p;
}

void permission_remove(struct sessions *t, struct permission *p)
{
    session_changed(p->session);
    timer_clear(&t->timers, &p->timer);
    table_remove(&t->permissions, &p->by_ip);
    list_del(&p->in_session);
    p->session->permission_count--;
    slab_free(&t->permission_slab, p);
}

/* ------------------------------------------------------------------------------------ channels */

struct number_key {
    uint64_t session;
    uint16_t number;
    uint8_t zero[6];
};

static uint32_t number_hash(const struct sessions *t, const struct session *s, uint16_t number)
{
    struct number_key key = {.session = s->id, .number = number};
    return table_hash(&t->channel_numbers, &key, sizeof(key));
}

static struct channel *number_lookup(const struct sessions *t, const struct session *s,
                                     uint16_t number, uint32_t h)
{
    struct table_node *n;
    table_for_each(n, &t->channel_numbers, h)
    {
        struct channel *c = container_of(n, struct channel, by_number);
        if (c->session == s && c->number == number)
            return c;
    }
    return NULL;
}

static struct channel *peer_lookup(const struct sessions *t, const struct session *s,
                                   const struct addr *peer, uint32_t h)
{
    struct table_node *n;
    table_for_each(n, &t->channel_peers, h)
    {
        struct channel *c = container_of(n, struct channel, by_peer);
        if (c->session == s && addr_equal(&c->peer, peer))
            return c;
    }
    return NULL;
}

static struct channel *if_alive(struct channel *c, uint64_t now)
{
    return c && c->timer.deadline > now ? c : NULL;
}

static struct channel **recent_number(struct session *s, uint16_t number)
{
    return &s->recent_number[number & (RECENT_CHANNELS - 1)];
}

static struct channel **recent_peer(struct session *s, const struct addr *peer)
{
    return &s->recent_peer[(peer->port ^ peer->ip[15]) & (RECENT_CHANNELS - 1)];
}

struct channel *channel_by_number(const struct sessions *t, struct session *s, uint16_t number,
                                  uint64_t now)
{
    struct channel **recent = recent_number(s, number), *c = *recent;
    if (UNLIKELY(!c || !c->by_number.link || c->session != s || c->number != number))
        *recent = c = number_lookup(t, s, number, number_hash(t, s, number));
    return if_alive(c, now);
}

struct channel *channel_by_peer(const struct sessions *t, struct session *s,
                                const struct addr *peer, uint64_t now)
{
    if (list_empty(&s->channels))
        return NULL;
    struct channel **recent = recent_peer(s, peer), *c = *recent;
    if (UNLIKELY(!c || !c->by_peer.link || c->session != s || !addr_equal(&c->peer, peer))) {
        c = peer_lookup(t, s, peer, peer_hash(&t->channel_peers, s, peer, true));
        if (c)
            *recent = c;
    }
    return if_alive(c, now);
}

struct permission *channel_permission(const struct sessions *t, struct channel *c, uint64_t now)
{
    struct permission *p = c->permission;
    if (UNLIKELY(!p || !p->by_ip.link || p->session != c->session ||
                 !addr_ip_equal(&p->ip, &c->peer)))
        c->permission = p = permission_lookup(
            t, c->session, &c->peer, peer_hash(&t->permissions, c->session, &c->peer, false));
    return p && p->timer.deadline > now ? p : NULL;
}

static void channel_due(struct timers *w, struct timer *t)
{
    channel_remove(sessions_of(w), container_of(t, struct channel, timer));
}

struct channel *channel_set(struct sessions *t, struct session *s, uint16_t number,
                            const struct addr *peer, uint64_t deadline)
{
    uint32_t by_number = number_hash(t, s, number);
    uint32_t by_peer = peer_hash(&t->channel_peers, s, peer, true);
    struct channel *c = number_lookup(t, s, number, by_number);
    struct channel *other = peer_lookup(t, s, peer, by_peer);
    /* The caller has ruled out a conflict, so what is found here has expired. */
    if (other && other != c)
        channel_remove(t, other);
    if (c && !addr_equal(&c->peer, peer)) {
        channel_remove(t, c);
        c = NULL;
    }
    if (!c) {
        c = slab_alloc(&t->channel_slab);
        if (!c)
            return NULL;
        c->session = s;
        c->number = number;
        c->peer = *peer;
        c->timer.due = channel_due;
        table_insert(&t->channel_numbers, &c->by_number, by_number);
        table_insert(&t->channel_peers, &c->by_peer, by_peer);
        list_init(&c->in_session);
        list_add_tail(&s->channels, &c->in_session);
        s->channel_count++;
        session_changed(s); /* what came as a Data indication comes by it */
    }
    if (deadline < c->timer.deadline)
        session_changed(s);
    timer_set(&t->timers, &c->timer, deadline);
    return c;
}

void channel_remove(struct sessions *t, struct channel *c)
{
    session_changed(c->session);
    timer_clear(&t->timers, &c->timer);
    table_remove(&t->channel_numbers, &c->by_number);
    table_remove(&t->channel_peers, &c->by_peer);
    list_del(&c->in_session);
    c->session->channel_count--;
    slab_free(&t->channel_slab, c);
}

/* --------------------------------------------------------------------------------- in the kernel
 */

void session_drop_offloaded(struct sessions *t, struct session *s, bool all)
{
    for (struct offloaded **link = &s->offloaded; *link;) {
        struct offloaded *o = *link;
        if (!all && !offloaded_is_void(o)) {
            link = &o->next;
            continue;
        }
        *link = o->next;
        offloads_remove(&t->offloads, o);
    }
}

/* ----------------------------------------------------------------------------------- shortcuts */

static uint64_t taken(_Atomic uint64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed)
               ? atomic_exchange_explicit(n, 0, memory_order_relaxed)
               : 0;
}

/* What the kernel has relayed by itself. */
static void collect_offloaded(struct session *s)
{
    for (struct offloaded *o = s->offloaded; o; o = o->next) {
        uint64_t packets, bytes;
        bool from_client = o->direction == TO_PEER;
        offloaded_collect(o, &packets, &bytes);
        *(from_client ? &s->client_packets : &s->peer_packets) += packets;
        *(from_client ? &s->client_bytes : &s->peer_bytes) += bytes;
    }
}

/* More may have been taken back than was added: the numbers wrap, and the sum is right. */
void session_collect(struct sessions *t, struct session *s)
{
    collect_offloaded(s);
    if (!s->far)
        return;
    s->peer_packets += taken(&s->far->packets);
    s->peer_bytes += taken(&s->far->bytes);
    for (unsigned i = 0; i < SESSION_DROPS; i++)
        session_drop(t, s, i, taken(&s->far->drops[i]));
}

/* As many as there are sessions; only a system without memory has none left. */
void session_drop(struct sessions *t, struct session *s, unsigned reason, uint64_t n)
{
    if (n && !s->drops)
        s->drops = slab_alloc(&t->drops_slab);
    if (s->drops)
        s->drops[reason] += n;
}

uint64_t session_dropped(const struct session *s)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SESSION_DROPS; i++)
        sum += session_drops_for(s, i);
    return sum;
}

struct far_end *session_far_end(struct sessions *t, struct session *s)
{
    if (s->far)
        return s->far;
    s->far = far_end_open(&t->far_ends);
    if (s->far) {
        atomic_store(&s->far->bucket.full, atomic_load(&s->own[TO_CLIENT].full));
        atomic_store(&s->far->paced.full, atomic_load(&s->paced[TO_CLIENT].full));
    }
    return s->far;
}

static void shortcut_due(struct timers *w, struct timer *timer)
{
    drop_shortcut(sessions_of(w), container_of(timer, struct shortcut, timer));
}

struct shortcut *session_shortcut(struct sessions *t, struct session *s, const struct addr *peer)
{
    struct shortcut *sc = s->shortcuts ? shortcut_find(&t->shortcuts, s, peer) : NULL;
    if (sc || s->shortcut_count == SHORTCUTS_EACH)
        return sc;
    sc = shortcut_create(&t->shortcuts, s, &s->shortcuts, peer);
    if (!sc)
        return NULL;
    s->shortcut_count++;
    sc->timer.due = shortcut_due;
    return sc;
}

struct shortcut *channel_shortcut(const struct sessions *t, struct channel *c)
{
    const struct slab *slab = &t->shortcuts.slab;
    struct shortcut *sc = c->shortcut ? slab_at(slab, c->shortcut - 1) : NULL;
    if (LIKELY(sc && sc->by_pair.link && sc->session == c->session &&
               addr_equal(&sc->peer, &c->peer)))
        return sc;
    sc = shortcut_find(&t->shortcuts, c->session, &c->peer);
    c->shortcut = sc ? slab_index(slab, sc) + 1 : 0;
    return sc;
}
