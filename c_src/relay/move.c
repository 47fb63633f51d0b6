/*
 * Mobility (RFC 8016) inside the relay: a session gets a second 5-tuple, and the first Send or
 * ChannelData from it makes it the only one; until then the old one serves, both ways.
 *
 * The session stays in its worker. If the kernel brings the new client's datagrams to another one,
 * that worker keeps a roamer, which says whose they are, and carries them over by way of the
 * control thread: a detour of one direction of clients that moved. Erlang has seen to it that the
 * mover is the owner, and hears when the move is done.
 */
#include "input.h"

#include <string.h>

enum { CARRY_RESERVE = 2 * MAIL_RESERVE, REPLY_ROOM = 1024 };

static struct mail_flow pack(const struct flow *f)
{
    return (struct mail_flow){f->listener->id, f->transport->protocol, f->client, f->server};
}

static bool unpack(struct worker *w, const struct mail_flow *m, struct flow *f)
{
    *f = (struct flow){.transport = &transport_udp,
                       .listener = worker_listener(w, m->listener),
                       .client = m->client,
                       .server = m->server};
    return f->listener && m->transport == transport_udp.protocol;
}

static void tell_roamer(struct worker *w, unsigned to, bool add, const struct session *s,
                        const struct flow *f)
{
    struct mail_roam m = {
        .to = to, .add = add, .session = s->id, .home = w->config.index, .flow = pack(f)};
    if (to == w->config.index)
        move_roamer(w, &m);
    else
        worker_mail(w, MAIL_ROAM, &m, sizeof(m), NULL, 0, 0);
}

void move_roamer(struct worker *w, const struct mail_roam *m)
{
    struct flow f;
    if (!unpack(w, &m->flow, &f))
        return;
    if (m->add) {
        roamer_set(&w->sessions, &f, m->session, m->home);
        return;
    }
    struct roamer *r = roamer_find(&w->sessions, &f);
    if (r && r->session == m->session)
        roamer_remove(&w->sessions, r);
}

void move_settle(struct worker *w, struct session *s, unsigned home)
{
    s->flow_home = home;
    if (home != w->config.index)
        tell_roamer(w, home, true, s, &s->flow);
}

void move_forget(struct worker *w, struct session *s)
{
    if (s->move)
        tell_roamer(w, s->move->home, false, s, &s->move->flow);
    if (s->flow_home != w->config.index)
        tell_roamer(w, s->flow_home, false, s, &s->flow);
    session_drop_move(&w->sessions, s);
}

bool move_session(struct worker *w, const struct mail_move *m)
{
    if (mailbox_room(&w->out) < REPLY_ROOM)
        return false;
    struct flow f;
    struct session *s = session_by_id(&w->sessions, m->session);
    enum ctl_status status = CTL_OK;
    if (!s || !unpack(w, &m->flow, &f)) {
        status = CTL_GONE;
    } else if (session_find(&w->sessions, &f)) {
        status = CTL_CONFLICT;
    } else {
        if (s->move)
            tell_roamer(w, s->move->home, false, s, &s->move->flow);
        session_set_move(&w->sessions, s, &f, m->home);
        tell_roamer(w, m->home, true, s, &f);
    }
    struct ctl_frame reply = {
        .code = CTL_REPLY,
        .ref = m->ref,
        .u.reply = {.command = CTL_ALLOC_MOVE, .status = status, .session = m->session}};
    worker_post(w, &reply, false);
    return true;
}

/* The new 5-tuple has spoken. False when Erlang cannot be told now: then it has not, and may say it
 * again. */
static bool commit(struct worker *w, struct session *s)
{
    if (mailbox_room(&w->out) < REPLY_ROOM)
        return false;
    struct flow old = s->flow;
    unsigned old_home = s->flow_home;
    session_commit_move(&w->sessions, s);
    if (old_home != w->config.index)
        tell_roamer(w, old_home, false, s, &old);
    if (s->flow_home == w->config.index)
        tell_roamer(w, s->flow_home, false, s, &s->flow); /* found by its own 5-tuple now */
    struct ctl_frame moved = {.code = CTL_SESSION_MOVED,
                              .u.session_moved = {.session = s->id, .client = s->flow.client}};
    worker_post(w, &moved, false);
    count(w, CTR_moves);
    return true;
}

/* Payload of a client that moved, in the session's own worker. */
static void take(struct worker *w, uint64_t session, const struct flow *f, uint8_t *data,
                 size_t len)
{
    struct session *s = session_by_id(&w->sessions, session);
    struct stun_view v;
    bool channel = stun_demux(data[0]) == DEMUX_CHANNEL;
    if (!s || !session_alive(s, w->time.now)) {
        count(w, CTR_no_allocation);
        return;
    }
    if (!channel && (stun_parse(&v, data, len) != STUN_OK || v.unknown_count)) {
        count(w, CTR_bad_indication);
        return;
    }
    if (s->move && flow_equal(&s->move->flow, f)) {
        if (!commit(w, s)) {
            count(w, CTR_carry_full);
            return;
        }
    } else if (!flow_equal(&s->flow, f)) {
        return; /* of a 5-tuple left behind */
    }
    if (channel)
        forward_channel(w, s, data, len);
    else
        forward_send(w, s, &v);
}

bool move_carry(struct worker *w, const struct flow *f, uint8_t *data, size_t len)
{
    if (!w->sessions.roamers.count)
        return false;
    struct roamer *r = roamer_find(&w->sessions, f);
    if (!r)
        return false;
    if (r->home == w->config.index) {
        take(w, r->session, f, data, len);
        return true;
    }
    struct mail_carry m = {
        .to = r->home, .session = r->session, .flow = pack(f), .len = (uint32_t)len};
    if (!worker_mail(w, MAIL_CARRY, &m, sizeof(m), data, len, CARRY_RESERVE))
        count(w, CTR_carry_full);
    return true;
}

void move_carried(struct worker *w, const struct mail_carry *m, const uint8_t *data)
{
    struct flow f;
    if (!m->len || !unpack(w, &m->flow, &f))
        return;
    uint8_t *copy = io_scratch(w->io, m->len);
    memcpy(copy, data, m->len);
    take(w, m->session, &f, copy, m->len);
}
