/*
 * Mobility (RFC 8016) inside the relay: a session gets a second 5-tuple, and the first Send or
 * ChannelData from it makes it the only one; until then the old one serves, both ways.
 *
 * The session stays in its worker. If the kernel brings the new client's datagrams to another one,
 * that worker keeps a roamer, which says whose they are, and hands them over: a detour of one
 * direction of clients that moved, which waits for nobody but the two. Roamers are set and removed
 * by way of the control thread, as commands are. Erlang has seen to it that the mover is the owner,
 * and hears when the move is done.
 */
#include "move.h"

#include <string.h>

#include "count.h"
#include "forward.h"
#include "post.h"

static bool is_datagram(const struct flow *f)
{
    return f->transport->kind == CTL_TRANSPORT_UDP;
}

/* Listener 0, which there is not, where that is gone. */
static struct mail_flow pack(const struct shard *sh, const struct flow *f)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    struct mail_flow m = {.listener = e ? e->listener->id : 0,
                          .transport = f->transport->kind,
                          .client = f->client,
                          .server = f->server};
    const struct proxied *p = e && is_datagram(f) ? proxied_of(e) : NULL;
    if (p) {
        m.via = p->via;
        m.local = p->local;
    }
    return m;
}

static bool unpack(struct shard *sh, const struct mail_flow *m, struct flow *f)
{
    struct listener *l = m->via.family ? shard_listener(sh, m->listener) : NULL;
    struct proxied *p = l ? proxied_note(&sh->proxieds, l, &m->client, &m->server) : NULL;
    if (p) {
        p->via = m->via;
        p->local = m->local;
    }
    return shard_reach(sh, m->listener, m->transport, &m->client, &m->server, f);
}

/* The caller has asked for room. */
static void tell_roamer(struct shard *sh, unsigned to, bool add, const struct session *s,
                        const struct flow *f)
{
    struct mail_roam m = {
        .to = to, .add = add, .session = s->id, .home = sh->config.index, .flow = pack(sh, f)};
    if (to == sh->config.index)
        move_roamer(sh, &m);
    else
        post_mail(sh, MAIL_ROAM, &m, sizeof(m), NULL, 0, 0);
}

void move_roamer(struct shard *sh, const struct mail_roam *m)
{
    struct flow f;
    if (!unpack(sh, &m->flow, &f))
        return;
    if (m->add) {
        roamer_set(&sh->roamers, &f, m->session, m->home);
        return;
    }
    struct roamer *r = roamer_find(&sh->roamers, &f);
    if (r && r->session == m->session)
        roamer_remove(&sh->roamers, r);
}

void move_settle(struct shard *sh, struct session *s, unsigned home)
{
    s->flow_home = home;
    if (home != sh->config.index)
        tell_roamer(sh, home, true, s, &s->flow);
}

void move_forget(struct shard *sh, struct session *s)
{
    if (s->move)
        tell_roamer(sh, s->move->home, false, s, &s->move->flow);
    if (s->flow_home != sh->config.index)
        tell_roamer(sh, s->flow_home, false, s, &s->flow);
    session_drop_move(&sh->sessions, s);
}

void move_session(struct shard *sh, const struct mail_move *m)
{
    struct flow f;
    struct session *s = session_by_id(&sh->sessions, m->session);
    enum ctl_status status = CTL_OK;
    if (!s) {
        status = CTL_GONE;
    } else if (!unpack(sh, &m->flow, &f) || session_find(&sh->sessions, &f)) {
        status = CTL_CONFLICT; /* also of a client whose connection is in another worker, or gone */
    } else {
        if (s->move)
            tell_roamer(sh, s->move->home, false, s, &s->move->flow);
        session_set_move(&sh->sessions, s, &f, m->home);
        tell_roamer(sh, m->home, true, s, &f);
    }
    struct ctl_frame reply = {
        .code = CTL_REPLY,
        .ref = m->ref,
        .u.reply = {.command = CTL_ALLOC_MOVE, .status = status, .session = m->session}};
    post_frame(sh, &reply);
}

/* The new 5-tuple has spoken. False when Erlang cannot be told now: then it has not, and may say it
 * again. */
static bool commit(struct shard *sh, struct session *s)
{
    if (!post_has_room(sh))
        return false;
    struct flow old = s->flow;
    unsigned old_home = s->flow_home;
    flow_kept(sh, &old, false);
    session_commit_move(&sh->sessions, s);
    flow_kept(sh, &s->flow, true);
    if (old_home != sh->config.index)
        tell_roamer(sh, old_home, false, s, &old);
    if (s->flow_home == sh->config.index)
        tell_roamer(sh, s->flow_home, false, s, &s->flow); /* found by its own 5-tuple now */
    struct ctl_frame moved = {.code = CTL_SESSION_MOVED,
                              .u.session_moved = {.session = s->id, .client = s->flow.client}};
    post_frame(sh, &moved);
    count(sh, CTR_moves);
    return true;
}

/* Payload of a client that moved, in the session's own worker. */
static void take(struct shard *sh, uint64_t session, const struct flow *f, uint8_t *data,
                 size_t len)
{
    struct session *s = session_by_id(&sh->sessions, session);
    struct stun_view v;
    bool channel = stun_demux(data[0]) == DEMUX_CHANNEL;
    if (!s || !session_alive(s, sh->time.now)) {
        count(sh, CTR_no_allocation);
        return;
    }
    if (!channel && (stun_parse(&v, data, len) != STUN_OK || v.unknown_count)) {
        count(sh, CTR_bad_indication);
        return;
    }
    if (s->move && flow_equal(&s->move->flow, f)) {
        flow_learn_way(&sh->ways, &s->move->flow, f);
        if (!commit(sh, s)) {
            count(sh, CTR_carry_full);
            return;
        }
    } else if (!flow_equal(&s->flow, f)) {
        count(sh, CTR_no_allocation); /* of a 5-tuple left behind */
        return;
    }
    flow_learn_link(&s->flow, f);
    session_learn_way(&sh->sessions, s, f);
    if (channel)
        forward_channel(sh, s, data, len);
    else
        forward_send(sh, s, &v);
}

bool move_carry(struct shard *sh, const struct flow *f, uint8_t *data, size_t len)
{
    if (!sh->roamers.by_tuple.count)
        return false;
    struct roamer *r = roamer_find(&sh->roamers, f);
    if (!r)
        return false;
    if (r->home == sh->config.index) {
        take(sh, r->session, f, data, len);
        return true;
    }
    struct mail_carry m = {.session = r->session, .flow = pack(sh, f), .len = (uint32_t)len};
    if (!post_letter(sh, r->home, MAIL_CARRY, &m, sizeof(m), data, len))
        count(sh, CTR_carry_full);
    return true;
}

void move_carried(struct shard *sh, const struct mail_carry *m, const uint8_t *data)
{
    struct flow f;
    if (!unpack(sh, &m->flow, &f)) {
        count(sh, CTR_carry_full); /* the listener it came in by is gone here */
        return;
    }
    uint8_t *copy = io_scratch(sh->io, m->len);
    memcpy(copy, data, m->len);
    take(sh, m->session, &f, copy, m->len);
}
