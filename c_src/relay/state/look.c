#include "look.h"

#include <stdlib.h>

/* A source that was silent for so long gives its place to another. */
#define IDLE_NS (10 * NS_PER_S)

struct sight *look_begin(uint64_t now)
{
    struct sight *l = calloc(1, sizeof(*l));
    if (l)
        l->began = now;
    return l;
}

void look_free(struct sight *l)
{
    free(l);
}

/* NULL without room. */
static struct look_flow *flow_of(struct sight *l, const struct addr *peer)
{
    for (unsigned i = 0; i < l->flow_count; i++)
        if (addr_equal(&l->flows[i].peer, peer))
            return &l->flows[i];
    if (l->flow_count == LOOK_FLOWS)
        return NULL;
    struct look_flow *f = &l->flows[l->flow_count++];
    f->peer = *peer;
    return f;
}

static struct look_stream *stream_find(struct sight *l, unsigned direction, uint8_t flow,
                                       uint32_t ssrc)
{
    for (unsigned i = 0; i < l->stream_count; i++) {
        struct look_stream *s = &l->streams[i];
        if (s->rtp.ssrc == ssrc && s->direction == direction && s->flow == flow)
            return s;
    }
    return NULL;
}

/* A place for one more: a free one, or that of whoever has been silent for longest. */
static struct look_stream *stream_place(struct sight *l, uint64_t now)
{
    if (l->stream_count < LOOK_STREAMS)
        return &l->streams[l->stream_count++];
    struct look_stream *oldest = &l->streams[0];
    for (unsigned i = 1; i < LOOK_STREAMS; i++)
        if (l->streams[i].rtp.last < oldest->rtp.last)
            oldest = &l->streams[i];
    return now - oldest->rtp.last >= IDLE_NS ? oldest : NULL;
}

static void take_rtp(struct sight *l, unsigned direction, uint8_t flow, const uint8_t *data,
                     size_t len, uint64_t now)
{
    struct rtp_header h;
    if (!rtp_read(&h, data, len))
        return;
    struct look_stream *s = stream_find(l, direction, flow, h.ssrc);
    if (s) {
        rtp_take(&s->rtp, &h, len, now);
        return;
    }
    s = stream_place(l, now);
    if (!s) {
        l->streams_missed++;
        return;
    }
    *s = (struct look_stream){.direction = (uint8_t)direction, .flow = flow};
    rtp_begin(&s->rtp, &h, now);
}

static void take_rtcp(struct sight *l, unsigned direction, uint8_t flow, const uint8_t *data)
{
    struct look_stream *s = stream_find(l, direction, flow, rtcp_ssrc(data));
    if (s)
        s->rtp.rtcp++;
}

void look_packet(struct sight *l, unsigned direction, const struct addr *peer, const uint8_t *data,
                 size_t len, uint64_t now)
{
    struct look_flow *f = flow_of(l, peer);
    if (!f) {
        l->flows_missed++;
        return;
    }
    struct look_side *side = &f->side[direction];
    enum media_kind kind = media_kind(data, len);
    uint8_t flow = (uint8_t)(f - l->flows);
    if (!side->first)
        side->first = now;
    side->last = now;
    side->bytes += len;
    side->packets[kind]++;
    if (kind == MEDIA_RTP)
        take_rtp(l, direction, flow, data, len, now);
    else if (kind == MEDIA_RTCP)
        take_rtcp(l, direction, flow, data);
    else if (kind == MEDIA_STUN)
        side->ice[media_ice(data, len)]++;
    else if (kind == MEDIA_DTLS)
        side->dtls |= media_dtls(data, len);
}

void look_drop(struct sight *l, unsigned reason, const struct addr *peer, uint16_t channel,
               uint64_t now)
{
    struct look_drop *d = &l->drops[reason];
    *d = (struct look_drop){.channel = channel, .at = now};
    if (peer)
        d->peer = *peer;
}
