/*
 * Whatever is not plainly within the grant is Erlang's: another name or key, a request that would
 * be refused, an attribute there is no rule for here, a table without room, another request of the
 * session that Erlang still has in hand. So Erlang alone refuses, and each refusal is counted and
 * throttled in one place.
 *
 * What was done is noted in the journal before the answer leaves. Without a journal it is posted
 * before the answer is owed, and the answer leaves when that is in the pipe (owed.h).
 */
#include "granted.h"

#include <string.h>

#include "answer.h"
#include "capturing.h"
#include "count.h"
#include "crypto.h"
#include "log.h"
#include "peers.h"
#include "post.h"

/* Of one request; what more would ask for is Erlang's. Their addresses fit a frame. */
enum { PEERS_MAX = 12, PEER_BYTES_MAX = 1 + 2 + 16 };
_Static_assert(PEERS_MAX *PEER_BYTES_MAX <= 256, "post_frame has room");

enum { COUNTERS = 5 + SESSION_DROPS };

/* --------------------------------------------------------------------------------- is it within */

/* Attributes that mean nothing here, or what is looked at below. */
static const bool has_rule[STUN_ATTR_COUNT] = {
    [A_username] = true,
    [A_userhash] = true,
    [A_realm] = true,
    [A_nonce] = true,
    [A_password_algorithm] = true,
    [A_password_algorithms] = true,
    [A_message_integrity] = true,
    [A_message_integrity_sha256] = true,
    [A_fingerprint] = true,
    [A_software] = true,
    [A_lifetime] = true,
    [A_xor_peer_address] = true,
    [A_channel_number] = true,
};

static bool every_attribute_has_a_rule(const struct stun_view *v)
{
    for (size_t i = 0; i < STUN_ATTR_COUNT; i++)
        if (v->at[i] && !has_rule[i])
            return false;
    return v->unknown_count == 0;
}

/* As grant.h says. False where one of them is malformed. */
static bool names_of(const struct stun_view *v, uint8_t out[SHA256_LEN])
{
    static const enum stun_attr_id ids[] = {A_username, A_userhash, A_realm, A_password_algorithm,
                                            A_password_algorithms};
    uint8_t heads[ARRAY_SIZE(ids)][3];
    struct crypto_part parts[2 * ARRAY_SIZE(ids)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        const uint8_t *value;
        size_t len;
        enum stun_err err = stun_get_bytes(v, ids[i], &value, &len);
        if (err != STUN_OK && err != STUN_ERR_ABSENT)
            return false;
        heads[i][0] = err == STUN_OK;
        parts[n++] = (struct crypto_part){heads[i], err == STUN_OK ? 3 : 1};
        if (err == STUN_ERR_ABSENT)
            continue;
        store16(heads[i] + 1, (uint16_t)len);
        parts[n++] = (struct crypto_part){value, len};
    }
    crypto_sha256(parts, n, out);
    return true;
}

/* MESSAGE-INTEGRITY-SHA256 decides when present (RFC 8489 9.2.4). */
static bool is_signed(const struct stun_view *v, const struct grant *g)
{
    bool match = false;
    if (stun_has(v, A_message_integrity_sha256))
        return stun_check_integrity_sha256(v, g->key, g->key_len, &match) == STUN_OK && match;
    return stun_check_integrity(v, g->key, g->key_len, &match) == STUN_OK && match;
}

static bool is_in_force(const struct shard *sh, const struct listener *l, const struct grant *g)
{
    return g->epoch == sh->config.grants_epoch &&
           g->epoch ==
               atomic_load_explicit(&sh->config.limits->grants_epoch, memory_order_relaxed) &&
           g->listener == l->id && g->until_s >= sh->time.wall_s;
}

static bool is_within(const struct shard *sh, const struct listener *l, const struct session *s,
                      const struct stun_view *v)
{
    uint8_t names[SHA256_LEN];
    const struct grant *g = s->grant;
    return g && is_in_force(sh, l, g) && session_alive(s, sh->time.now) &&
           !pending_find(&sh->pending, s->asked) && every_attribute_has_a_rule(v) &&
           names_of(v, names) && crypto_equal(names, g->names, GRANT_NAMES_LEN) && is_signed(v, g);
}

/* ----------------------------------------------------------------------------- what is asked for
 */

/* Each does all that the request asks for, or nothing and says false; and notes in `told` what
 * Erlang has to know. */

/* The desired lifetime of RFC 8656 8.2, in seconds; 0 where it is to end. */
static uint32_t desired(const struct shard *sh, const struct grant *g, uint64_t asked)
{
    uint64_t s = MAX(g->default_s, MIN(asked, g->max_s));
    if (g->ends) /* a lifetime of 0 would end it */
        s = MIN(s, MAX(g->until_s - sh->time.wall_s, 1u));
    return asked ? (uint32_t)s : 0;
}

static bool refresh(struct shard *sh, struct session *s, const struct stun_view *v,
                    struct ctl_granted *told)
{
    uint64_t asked = s->grant->default_s;
    enum stun_err err = stun_get_uint(v, A_lifetime, &asked);
    told->lifetime_s = desired(sh, s->grant, asked);
    if (err != STUN_OK && err != STUN_ERR_ABSENT)
        return false;
    for (int i = 0; i < 2; i++)
        if (s->relayed[i].open && s->relayed[i].deadline <= sh->time.now)
            return false; /* about to be swept */
    if (told->lifetime_s == 0)
        return true; /* it ends once its answer is made */
    for (int i = 0; i < 2; i++)
        if (s->relayed[i].open && !s->relayed[i].io.removing)
            session_set_deadline(s, &s->relayed[i], shard_in_ms(sh, told->lifetime_s * 1000));
    session_set_timer(&sh->sessions, s);
    return true;
}

struct peer_list {
    struct addr addrs[PEERS_MAX];
    uint32_t count;
    uint32_t places; /* they need in the table */
};

/* All well-formed and allowed. */
static bool read_peers(struct shard *sh, struct session *s, const struct stun_view *v,
                       struct peer_list *out)
{
    char why_not[POLICY_TEXT_MAX];
    struct stun_iter it;
    struct addr peer;
    stun_iter_init(&it, v);
    while (stun_iter_next(&it)) {
        if (it.id != A_xor_peer_address)
            continue;
        if (out->count == PEERS_MAX || stun_iter_addr(&it, &peer) != STUN_OK ||
            peers_check(sh, s, &peer, why_not) != CTL_OK)
            return false;
        peer.port = 0;
        out->places += !permission_exists(&sh->sessions, s, &peer);
        out->addrs[out->count++] = peer;
    }
    return out->count > 0;
}

static bool permit(struct shard *sh, struct session *s, const struct stun_view *v,
                   struct ctl_granted *told, uint8_t peers[PEERS_MAX * PEER_BYTES_MAX])
{
    struct peer_list list = {.count = 0};
    struct wbytes w = wbytes_of(peers, PEERS_MAX * PEER_BYTES_MAX);
    if (!read_peers(sh, s, v, &list) || !peers_have_room(sh, list.places) ||
        s->permission_count + list.places > s->grant->max_peers)
        return false;
    for (uint32_t i = 0; i < list.count; i++) {
        told->fresh += !permission_find(&sh->sessions, s, &list.addrs[i], sh->time.now);
        peers_permit_one(sh, s, &list.addrs[i], shard_in_ms(sh, CTL_PERMISSION_MS));
        ctl_put_addr(&w, &list.addrs[i]);
    }
    told->peers = ctl_bytes_of(peers, wbytes_len(&w));
    return true;
}

static bool bind_channel(struct shard *sh, struct session *s, const struct stun_view *v,
                         struct ctl_granted *told, uint8_t peers[PEERS_MAX * PEER_BYTES_MAX])
{
    char why_not[POLICY_TEXT_MAX];
    struct wbytes w = wbytes_of(peers, PEERS_MAX * PEER_BYTES_MAX);
    struct addr peer;
    uint64_t number;
    if (stun_get_uint(v, A_channel_number, &number) != STUN_OK ||
        stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK)
        return false;
    uint64_t now = sh->time.now;
    if (!channel_by_number(&sh->sessions, s, (uint16_t)number, now) &&
        s->channel_count >= s->grant->max_peers)
        return false;
    told->fresh = !permission_find(&sh->sessions, s, &peer, now);
    const struct peers_binding binding = {(uint16_t)number, peer, CTL_CHANNEL_MS,
                                          CTL_PERMISSION_MS};
    if (peers_bind(sh, s, &binding, why_not) != CTL_OK)
        return false;
    told->number = (uint16_t)number;
    ctl_put_addr(&w, &peer);
    told->peers = ctl_bytes_of(peers, wbytes_len(&w));
    return true;
}

/* ------------------------------------------------------------------------------------ the answer
 */

/* What a session has counted goes with each Refresh: it shall not die with this program. */
static void put_counters(struct sessions *t, struct session *s, uint8_t out[COUNTERS * 8])
{
    session_collect(t, s);
    const uint64_t first[] = {s->client_packets, s->client_bytes, s->peer_packets, s->peer_bytes,
                              session_dropped(s)};
    for (unsigned i = 0; i < COUNTERS; i++)
        store64(out + i * 8,
                i < ARRAY_SIZE(first) ? first[i] : session_drops_for(s, i - ARRAY_SIZE(first)));
}

static size_t build(const struct shard *sh, const struct stun_view *v, const struct grant *g,
                    const struct ctl_granted *told, uint8_t packet[OWED_PACKET_MAX])
{
    struct stun_builder b;
    stun_build_response(&b, packet, OWED_PACKET_MAX, STUN_SUCCESS, v);
    if (v->method == STUN_REFRESH)
        stun_put_uint(&b, A_lifetime, told->lifetime_s);
    if (sh->config.software_len)
        stun_put_bytes(&b, A_software, sh->config.software, sh->config.software_len);
    if (g->sha256)
        stun_put_integrity_sha256(&b, g->key, g->key_len);
    else
        stun_put_integrity(&b, g->key, g->key_len);
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    return stun_build_end(&b);
}
_Static_assert(STUN_HEADER_LEN + 8 + 4 + GRANT_SOFTWARE_MAX + 1 + 36 + 8 <= OWED_PACKET_MAX,
               "every answer fits");

static void answer_now(struct shard *sh, const struct flow *f, const struct stun_view *v,
                       const struct grant *g, const struct ctl_granted *told)
{
    uint8_t packet[OWED_PACKET_MAX];
    answer_send(sh, f, packet, build(sh, v, g, told, packet));
    count(sh, CTR_granted);
}

static void owe(struct shard *sh, const struct flow *f, const struct stun_view *v,
                const struct grant *g, const struct ctl_granted *told)
{
    struct owed_answer *a = owed_add(&sh->owed, f, mailbox_posted(&sh->out));
    a->len = (uint32_t)build(sh, v, g, told, a->packet);
}

/* --------------------------------------------------------------------------- Erlang is told of it
 */

enum { FRAME_MAX = CTL_PLAIN_MAX + 256 };
_Static_assert(FRAME_MAX <= (int)JOURNAL_NOTE_MAX, "every frame is a note");

static bool may_tell(struct shard *sh)
{
    if (journal_is_open(&sh->journal))
        return journal_has_room(&sh->journal, FRAME_MAX);
    return owed_has_room(&sh->owed) && post_may_ask(sh);
}

/* Whoever reads the journal now and then is told once that it is time. */
static void knock(struct shard *sh)
{
    bool much = journal_waiting(&sh->journal) > JOURNAL_RING / 2;
    if (sh->config.prompt || (much && !sh->knocked))
        post_frame(sh, &(struct ctl_frame){.code = CTL_NOTED});
    sh->knocked = much;
}

static void note(struct shard *sh, const struct ctl_frame *f)
{
    uint8_t frame[FRAME_MAX];
    journal_note(&sh->journal, frame, (uint32_t)ctl_encode(f, frame, sizeof(frame)));
}

static bool is_due(struct grant *g)
{
    g->answered = (g->answered + 1u) % GRANT_DUE;
    return g->answered == 0;
}

bool granted_request(struct shard *sh, const struct listener *l, const struct flow *f,
                     const struct stun_view *v)
{
    struct session *s = session_find(&sh->sessions, f);
    if (!s || !is_within(sh, l, s, v) || !may_tell(sh))
        return false;
    uint8_t peers[PEERS_MAX * PEER_BYTES_MAX], counters[COUNTERS * 8];
    struct ctl_frame frame = {.code = CTL_GRANTED,
                              .u.granted = {.session = s->id, .method = (uint8_t)v->method}};
    struct ctl_granted *told = &frame.u.granted;
    bool done = v->method == STUN_REFRESH             ? refresh(sh, s, v, told)
                : v->method == STUN_CREATE_PERMISSION ? permit(sh, s, v, told, peers)
                : v->method == STUN_CHANNEL_BIND      ? bind_channel(sh, s, v, told, peers)
                                                      : false;
    if (!done)
        return false;
    if (v->method == STUN_REFRESH) {
        put_counters(&sh->sessions, s, counters);
        told->counters = ctl_bytes_of(counters, sizeof(counters));
    }
    told->us = (uint32_t)((clock_read().now - sh->time.now) / 1000);
    told->due = is_due(s->grant);
    if (journal_is_open(&sh->journal)) {
        note(sh, &frame);
        answer_now(sh, f, v, s->grant, told);
        knock(sh);
    } else {
        post_frame(sh, &frame);
        owe(sh, f, v, s->grant, told);
    }
    if (v->method == STUN_REFRESH && told->lifetime_s == 0)
        session_ended(&sh->sessions, s);
    return true;
}

bool granted_pay(struct shard *sh, uint32_t told)
{
    const struct owed_answer *a;
    bool any = false;
    while ((a = owed_next(&sh->owed, told))) {
        uint8_t *copy = io_scratch(sh->io, a->len);
        memcpy(copy, a->packet, a->len);
        capturing_message(sh, &a->flow, false, a->packet, a->len);
        a->flow.transport->send(sh, &a->flow, copy, a->len);
        count(sh, CTR_granted);
        owed_remove(&sh->owed);
        any = true;
    }
    return any;
}

/* ------------------------------------------------------------------------------------ the grants
 */

void granted_give(struct shard *sh, const struct ctl_grant *m)
{
    struct session *s = session_by_id(&sh->sessions, m->session);
    if (!s || m->key.len > GRANT_KEY_MAX || m->names.len != SHA256_LEN)
        return;
    struct grant g = {.until_s = m->until_s ? (uint32_t)MIN(m->until_s, UINT32_MAX) : UINT32_MAX,
                      .epoch = m->epoch,
                      .listener = m->listener,
                      .default_s = m->default_s,
                      .max_s = m->max_s,
                      .max_peers = (uint16_t)MIN(m->max_peers, UINT16_MAX),
                      .key_len = (uint8_t)m->key.len,
                      .sha256 = m->sha256 != 0,
                      .ends = m->ends != 0};
    memcpy(g.key, m->key.data, m->key.len);
    memcpy(g.names, m->names.data, GRANT_NAMES_LEN);
    session_set_grant(&sh->sessions, s, &g);
    crypto_zero(&g, sizeof(g));
}

void granted_epoch(struct shard *sh, const struct ctl_grants *m)
{
    sh->config.grants_epoch = m->epoch;
    sh->config.prompt = m->prompt != 0;
    sh->config.software_len = (uint8_t)MIN(m->software.len, (size_t)GRANT_SOFTWARE_MAX);
    memcpy(sh->config.software, m->software.data, sh->config.software_len);
    if (sh->config.prompt && journal_is_open(&sh->journal) && journal_waiting(&sh->journal))
        post_frame(sh, &(struct ctl_frame){.code = CTL_NOTED});
}

void granted_journal(struct shard *sh, const struct ctl_journal *m)
{
    char path[JOURNAL_PATH_MAX] = {0};
    memcpy(path, m->path.data, MIN(m->path.len, sizeof(path) - 1));
    int ret = journal_open(&sh->journal, path, sh->config.index);
    if (ret)
        log_error("journal of worker %u: %s", sh->config.index, strerror(-ret));
    sh->knocked = false;
}
