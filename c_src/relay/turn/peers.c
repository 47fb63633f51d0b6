#include "peers.h"

#include "judge.h"
#include "reply.h"

enum ctl_status peers_check(struct shard *sh, struct session *s, const struct addr *peer,
                            char why_not[POLICY_TEXT_MAX])
{
    if (!session_relays(s, peer->family, sh->time.now))
        return CTL_FAMILY;
    return policy_reach(sh->policy, peer, why_not) == REACH_NONE ? CTL_FORBIDDEN : CTL_OK;
}

void peers_permit_one(struct shard *sh, struct session *s, const struct addr *peer,
                      uint64_t deadline)
{
    judge_note(sh, permission_set(&sh->sessions, s, peer, deadline));
}

bool peers_have_room(const struct shard *sh, uint32_t n)
{
    const struct slab *slab = &sh->sessions.permission_slab;
    return slab->max - slab->live >= n;
}

void peers_permit(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_permit *m = &f->u.permit;
    struct session *s = session_by_id(&sh->sessions, m->session);
    struct bytes cur = ctl_cursor(m->peers);
    char why_not[POLICY_TEXT_MAX] = "";
    struct addr peer;
    uint32_t n = 0;
    enum ctl_status status = s ? CTL_OK : CTL_GONE;
    while (status == CTL_OK && ctl_next_addr(&cur, &peer)) {
        status = peers_check(sh, s, &peer, why_not);
        n += !permission_exists(&sh->sessions, s, &peer);
    }
    if (status == CTL_OK && bytes_left(&cur))
        status = CTL_REFUSED;
    if (status == CTL_OK && !peers_have_room(sh, n))
        status = CTL_FULL;
    if (status == CTL_OK) {
        cur = ctl_cursor(m->peers);
        while (ctl_next_addr(&cur, &peer))
            peers_permit_one(sh, s, &peer, shard_in_ms(sh, m->lifetime_ms));
    }
    reply(sh, f, m->session, status, why_not);
}

enum ctl_status peers_bind(struct shard *sh, struct session *s, const struct peers_binding *b,
                           char why_not[POLICY_TEXT_MAX])
{
    enum ctl_status status = peers_check(sh, s, &b->peer, why_not);
    if (status)
        return status;
    if (b->number < CHANNEL_MIN || b->number > sh->config.channel_max || b->peer.port == 0)
        return CTL_REFUSED;
    const struct relayed *r = session_relayed(s, b->peer.family, sh->time.now);
    if (!r)
        return CTL_REFUSED; /* it relays TCP, which has no channels */
    struct addr self = relayed_local(r);
    enum reach reach = policy_reach(sh->policy, &b->peer, why_not);
    if (reach != REACH_ALL && !policy_allows_port(sh->policy, reach, &b->peer, &self)) {
        policy_why_not_port(sh->policy, reach, &b->peer, why_not);
        return CTL_FORBIDDEN;
    }
    uint64_t now = sh->time.now;
    struct channel *same_number = channel_by_number(&sh->sessions, s, b->number, now);
    struct channel *same_peer = channel_by_peer(&sh->sessions, s, &b->peer, now);
    if (same_number != same_peer)
        return CTL_CONFLICT; /* RFC 8656 12.2: either is bound to another */
    bool adds = b->permission_ms && !permission_exists(&sh->sessions, s, &b->peer);
    if (!peers_have_room(sh, adds ? 1 : 0) ||
        !channel_set(&sh->sessions, s, b->number, &b->peer, shard_in_ms(sh, b->lifetime_ms)))
        return CTL_FULL;
    if (b->permission_ms)
        peers_permit_one(sh, s, &b->peer, shard_in_ms(sh, b->permission_ms));
    return CTL_OK;
}

void peers_channel(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_channel *m = &f->u.channel;
    const struct peers_binding binding = {m->number, m->peer, m->lifetime_ms, m->permission_ms};
    struct session *s = session_by_id(&sh->sessions, m->session);
    char why_not[POLICY_TEXT_MAX] = "";
    enum ctl_status status = s ? peers_bind(sh, s, &binding, why_not) : CTL_GONE;
    reply(sh, f, m->session, status, why_not);
}
