#include "looking.h"

#include "count.h"
#include "post.h"
#include "reply.h"
#include "tls.h"

enum {
    ADDR_ROW = 1 + 2 + 16,
    SIDE_ROW = 4 + 4 + 8 + MEDIA_KINDS * 8 + 3 * 4 + 1,
    FLOW_ROW = ADDR_ROW + 2 * SIDE_ROW,
    STREAM_ROW = 3 + 2 * 4 + 5 * 8 + 11 * 4,
    DROP_ROW = 1 + 4 + 2 + ADDR_ROW,
    ROWS_MAX = LOOK_FLOWS * FLOW_ROW + LOOK_STREAMS * STREAM_ROW + SESSION_DROPS * DROP_ROW,
    NEVER = -1,
};
_Static_assert(ROWS_MAX <= REQUEST_MAX + TLS_CLIENT_CERT_MAX,
               "post_request has room, with a certificate's");

/* Nobody has asked for it again: it ends with whatever finds that out first. */
static struct sight *still(struct shard *sh, struct session *s)
{
    if (s->look && s->look->until <= sh->time.now)
        session_end_look(&sh->sessions, s);
    return s->look;
}

static enum ctl_status look(struct shard *sh, struct session *s, uint32_t lifetime_ms)
{
    if (still(sh, s))
        return CTL_OK;
    if (s->tcp || lifetime_ms == 0)
        return CTL_REFUSED;
    return session_begin_look(&sh->sessions, s, sh->time.now) ? CTL_OK : CTL_FULL;
}

/* --------------------------------------------------------------------------------------- rows */

static uint32_t ms_ago(const struct shard *sh, uint64_t at)
{
    return at ? (uint32_t)((sh->time.now - at) / NS_PER_MS) : (uint32_t)NEVER;
}

static void put_addr(struct wbytes *w, const struct addr *a)
{
    wbytes_put8(w, a->family);
    wbytes_put16(w, a->port);
    wbytes_put(w, a->ip, sizeof(a->ip));
}

static void put_side(const struct shard *sh, struct wbytes *w, const struct look_side *side)
{
    wbytes_put32(w, ms_ago(sh, side->first));
    wbytes_put32(w, ms_ago(sh, side->last));
    wbytes_put64(w, side->bytes);
    for (int i = 0; i < MEDIA_KINDS; i++)
        wbytes_put64(w, side->packets[i]);
    for (int i = ICE_REQUEST; i <= ICE_ERROR; i++)
        wbytes_put32(w, side->ice[i]);
    wbytes_put8(w, side->dtls);
}

static void put_flows(const struct shard *sh, struct wbytes *w, const struct sight *l)
{
    for (unsigned i = 0; i < l->flow_count; i++) {
        put_addr(w, &l->flows[i].peer);
        put_side(sh, w, &l->flows[i].side[TO_PEER]);
        put_side(sh, w, &l->flows[i].side[TO_CLIENT]);
    }
}

static void put_stream(const struct shard *sh, struct wbytes *w, const struct look_stream *s)
{
    const struct rtp_stream *r = &s->rtp;
    wbytes_put8(w, s->direction);
    wbytes_put8(w, s->flow);
    wbytes_put8(w, r->payload_type);
    wbytes_put32(w, r->ssrc);
    wbytes_put32(w, r->rate);
    wbytes_put64(w, r->packets);
    wbytes_put64(w, r->bytes);
    wbytes_put64(w, rtp_lost(r));
    wbytes_put64(w, r->late);
    wbytes_put64(w, r->twice);
    wbytes_put32(w, r->bursts);
    wbytes_put32(w, r->run_max);
    wbytes_put32(w, rtp_jitter_us(r, r->jitter));
    wbytes_put32(w, rtp_jitter_us(r, r->jitter_max));
    wbytes_put32(w, r->silences);
    wbytes_put32(w, (uint32_t)(r->silent / NS_PER_MS));
    wbytes_put32(w, (uint32_t)(r->silent_max / NS_PER_MS));
    wbytes_put32(w, r->restarts);
    wbytes_put32(w, (uint32_t)r->rtcp);
    wbytes_put32(w, ms_ago(sh, r->first));
    wbytes_put32(w, ms_ago(sh, r->last));
}

static void put_drops(const struct shard *sh, struct wbytes *w, const struct sight *l)
{
    for (unsigned i = 0; i < SESSION_DROPS; i++) {
        const struct look_drop *d = &l->drops[i];
        if (!d->at)
            continue;
        wbytes_put8(w, (uint8_t)i);
        wbytes_put32(w, ms_ago(sh, d->at));
        wbytes_put16(w, d->channel);
        put_addr(w, &d->peer);
    }
}

static bool tell(struct shard *sh, const struct ctl_frame *f, const struct session *s)
{
    const struct sight *l = s->look;
    uint8_t rows[ROWS_MAX];
    struct wbytes w = wbytes_of(rows, sizeof(rows));
    put_flows(sh, &w, l);
    size_t flows = wbytes_len(&w);
    for (unsigned i = 0; i < l->stream_count; i++)
        if (l->streams[i].rtp.valid)
            put_stream(sh, &w, &l->streams[i]);
    size_t streams = wbytes_len(&w);
    put_drops(sh, &w, l);
    struct ctl_frame out = {
        .code = CTL_LOOKED,
        .ref = f->ref,
        .u.looked = {.session = s->id,
                     .looking_ms = (uint32_t)((sh->time.now - l->began) / NS_PER_MS),
                     .missed = l->flows_missed + l->streams_missed,
                     .flows = ctl_bytes_of(rows, flows),
                     .streams = ctl_bytes_of(rows + flows, streams - flows),
                     .drops = ctl_bytes_of(rows + streams, wbytes_len(&w) - streams)}};
    return post_request(sh, &out); /* it can wait as requests can */
}

bool looking_ask(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_look *m = &f->u.look;
    struct session *s = session_by_id(&sh->sessions, m->session);
    enum ctl_status status = s ? look(sh, s, m->lifetime_ms) : CTL_GONE;
    if (status != CTL_OK) {
        reply(sh, f, m->session, status,
              status == CTL_REFUSED ? "it relays TCP, or nobody looks"
              : status == CTL_FULL  ? "so many are looked at already"
                                    : "");
        return true;
    }
    s->look->until = MAX(s->look->until, shard_in_ms(sh, m->lifetime_ms));
    return tell(sh, f, s);
}

/* ------------------------------------------------------------------------------------- packets */

void looking_packet(struct shard *sh, struct session *s, enum direction d, const struct addr *peer,
                    const uint8_t *data, size_t len)
{
    struct sight *l = still(sh, s);
    if (l)
        look_packet(l, d, peer, data, len, sh->time.now);
}

void looking_drop(struct shard *sh, struct session *s, enum counter reason, const struct addr *peer,
                  uint16_t channel)
{
    struct sight *l = still(sh, s);
    if (l)
        look_drop(l, reason - CTR_no_channel, peer, channel, sh->time.now);
}
