#include "peers.h"

#include "judge.h"
#include "reply.h"

/* The checks every peer passes before anything is installed for it. */
static enum ctl_status check_peer(struct shard *sh, struct session *s, const struct addr *peer,
                                  char why_not[POLICY_TEXT_MAX])
{
    if (!session_relays(s, peer->family, sh->time.now))
        return CTL_FAMILY;
    return policy_reach(sh->policy, peer, why_not) == REACH_NONE ? CTL_FORBIDDEN : CTL_OK;
}

static void permit_one(struct shard *sh, struct session *s, const struct addr *peer,
                       uint64_t deadline)
{
    judge_note(sh, permission_set(&sh->sessions, s, peer, deadline));
}

static bool room_for(const struct slab *slab, uint32_t n)
{
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
        status = check_peer(sh, s, &peer, why_not);
        n += !permission_exists(&sh->sessions, s, &peer);
    }
    if (status == CTL_OK && bytes_left(&cur))
        status = CTL_REFUSED;
    if (status == CTL_OK && !room_for(&sh->sessions.permission_slab, n))
        status = CTL_FULL;
    if (status == CTL_OK) {
        cur = ctl_cursor(m->peers);
        while (ctl_next_addr(&cur, &peer))
            permit_one(sh, s, &peer, shard_in_ms(sh, m->lifetime_ms));
    }
    reply(sh, f, m->session, status, why_not);
}

static enum ctl_status bind_channel(struct shard *sh, struct session *s,
                                    const struct ctl_channel *m, char why_not[POLICY_TEXT_MAX])
{
    enum ctl_status status = check_peer(sh, s, &m->peer, why_not);
    if (status)
        return status;
    if (m->number < CHANNEL_MIN || m->number > sh->config.channel_max || m->peer.port == 0)
        return CTL_REFUSED;
    const struct relayed *r = session_relayed(s, m->peer.family, sh->time.now);
    if (!r)
        return CTL_REFUSED; /* it relays TCP, which has no channels */
    struct addr self = relayed_local(r);
    enum reach reach = policy_reach(sh->policy, &m->peer, why_not);
    if (reach != REACH_ALL && !policy_allows_port(sh->policy, reach, &m->peer, &self)) {
        policy_why_not_port(sh->policy, reach, &m->peer, why_not);
        return CTL_FORBIDDEN;
    }
    uint64_t now = sh->time.now;
    struct channel *same_number = channel_by_number(&sh->sessions, s, m->number, now);
    struct channel *same_peer = channel_by_peer(&sh->sessions, s, &m->peer, now);
    if (same_number != same_peer)
        return CTL_CONFLICT; /* RFC 8656 12.2: either is bound to another */
    bool adds = m->permission_ms && !permission_exists(&sh->sessions, s, &m->peer);
    if (!room_for(&sh->sessions.permission_slab, adds ? 1 : 0) ||
        !channel_set(&sh->sessions, s, m->number, &m->peer, shard_in_ms(sh, m->lifetime_ms)))
        return CTL_FULL;
    if (m->permission_ms)
        permit_one(sh, s, &m->peer, shard_in_ms(sh, m->permission_ms));
    return CTL_OK;
}

void peers_channel(struct shard *sh, const struct ctl_frame *f)
{
    struct session *s = session_by_id(&sh->sessions, f->u.channel.session);
    char why_not[POLICY_TEXT_MAX] = "";
    enum ctl_status status = s ? bind_channel(sh, s, &f->u.channel, why_not) : CTL_GONE;
    reply(sh, f, f->u.channel.session, status, why_not);
}
