#include "media.h"

#include "bytes.h"
#include "stun.h"

enum {
    /* RFC 3550 A.1 */
    DROPOUT_MAX = 3000,
    MISORDER_MAX = 100,
    RTP_HEADER = 12,
    RTCP_HEADER = 8,
    WINDOW = 64,
    DTLS_RECORD_HEADER = 13,
    DTLS_MESSAGE_HEADER = 12,
};

#define SILENCE_NS  NS_PER_S
#define RATE_NS     (2 * NS_PER_S) /* a clock is measured for so long ... */
#define RATE_MAX_NS (8 * NS_PER_S) /* ... and anew after so long in vain */

/* ----------------------------------------------------------------------------- which protocol */

/* RFC 7983 7; of what is RTP or RTCP, RFC 5761 4. */
enum media_kind media_kind(const uint8_t *data, size_t len)
{
    if (len == 0)
        return MEDIA_OTHER;
    if (data[0] <= 3)
        return len >= STUN_HEADER_LEN ? MEDIA_STUN : MEDIA_OTHER;
    if (data[0] >= 20 && data[0] <= 63)
        return MEDIA_DTLS;
    if (data[0] < 128 || data[0] > 191)
        return MEDIA_OTHER;
    if (len >= RTCP_HEADER && data[1] >= 192 && data[1] <= 223)
        return MEDIA_RTCP;
    return len >= RTP_HEADER ? MEDIA_RTP : MEDIA_OTHER;
}

size_t media_header_len(const uint8_t *data, size_t len)
{
    switch (media_kind(data, len)) {
    case MEDIA_STUN:
        return len;
    case MEDIA_RTP:
        return MIN(len, (size_t)RTP_HEADER + 4 * (data[0] & 0x0f));
    case MEDIA_RTCP:
        return RTCP_HEADER;
    case MEDIA_DTLS:
        return MIN(len, (size_t)DTLS_RECORD_HEADER + (data[0] == 22 ? DTLS_MESSAGE_HEADER : 0));
    default:
        return 0;
    }
}

enum ice_check media_ice(const uint8_t *data, size_t len)
{
    if (len < STUN_HEADER_LEN)
        return ICE_NONE;
    switch (load16(data)) {
    case 0x0001:
        return ICE_REQUEST;
    case 0x0101:
        return ICE_SUCCESS;
    case 0x0111:
        return ICE_ERROR;
    default:
        return ICE_NONE;
    }
}

/* Of the first record, which is all that matters: a flight begins with what it is of. */
uint8_t media_dtls(const uint8_t *data, size_t len)
{
    if (data[0] >= 32)
        return DTLS_SAID_FINISHED; /* RFC 9147 4: only what is encrypted looks so */
    if (len <= DTLS_RECORD_HEADER)
        return 0;
    bool clear = load16(data + 3) == 0; /* the epoch */
    switch (data[0]) {
    case 21:
        return DTLS_SAID_ALERT;
    case 22:
        if (!clear)
            return DTLS_SAID_FINISHED;
        return data[DTLS_RECORD_HEADER] == 1   ? DTLS_SAID_CLIENT_HELLO
               : data[DTLS_RECORD_HEADER] == 2 ? DTLS_SAID_SERVER_HELLO
                                               : 0;
    case 20:
        return DTLS_SAID_FINISHED; /* ChangeCipherSpec, and behind it Finished */
    case 23:
        return DTLS_SAID_DATA;
    default:
        return 0;
    }
}

bool rtp_read(struct rtp_header *h, const uint8_t *data, size_t len)
{
    if (len < RTP_HEADER || data[0] >> 6 != 2)
        return false;
    size_t header = RTP_HEADER + 4 * (size_t)(data[0] & 0x0f);
    if (data[0] & 0x10) {
        if (len < header + 4)
            return false;
        header += 4 + 4 * (size_t)load16(data + header + 2);
    }
    if (len < header)
        return false;
    *h = (struct rtp_header){.payload_type = data[1] & 0x7f,
                             .sequence = load16(data + 2),
                             .timestamp = load32(data + 4),
                             .ssrc = load32(data + 8),
                             .header_len = header};
    return true;
}

uint32_t rtcp_ssrc(const uint8_t *data)
{
    return load32(data + 4);
}

/* ----------------------------------------------------------------------------- sequence numbers */

static void begin_sequence(struct rtp_stream *s, uint16_t sequence)
{
    s->newest = sequence;
    s->window = UINT64_MAX; /* nothing is missing from before it */
    s->restart_armed = false;
    s->run = 0;
}

/* What leaves the window has come by now or is lost. */
static void leave(struct rtp_stream *s, bool has_come)
{
    if (has_come) {
        s->run = 0;
        return;
    }
    s->lost++;
    s->run++;
    s->bursts += s->run == 2;
    s->run_max = MAX(s->run_max, s->run);
}

static void advance(struct rtp_stream *s, uint16_t by)
{
    s->newest = (uint16_t)(s->newest + by);
    for (; by > 0; by--) {
        leave(s, s->window >> (WINDOW - 1));
        s->window <<= 1;
    }
    s->window |= 1;
}

/* So far behind the newest. False when it has come before. */
static bool fill(struct rtp_stream *s, unsigned behind)
{
    if (behind >= WINDOW) { /* it counts as lost already */
        s->lost -= s->lost > 0;
        s->late++;
        return true;
    }
    if (s->window >> behind & 1) {
        s->twice++;
        return false;
    }
    s->window |= 1ull << behind;
    s->late++;
    return true;
}

/* RFC 3550 A.1. True when the packet is one more of the source. */
static bool in_sequence(struct rtp_stream *s, uint16_t sequence, bool *newest)
{
    uint16_t ahead = (uint16_t)(sequence - s->newest);
    *newest = false;
    if (!s->valid) {
        s->valid = ahead == 1;
        begin_sequence(s, sequence);
        return *newest = s->valid;
    }
    if (ahead == 0 || ahead > UINT16_MAX + 1 - MISORDER_MAX)
        return fill(s, (uint16_t)(s->newest - sequence));
    if (ahead < DROPOUT_MAX) {
        advance(s, ahead);
        return *newest = true;
    }
    /* A jump: a stray packet, or the source has begun anew, which the next one shows. */
    if (s->restart_armed && sequence == s->restart_at) {
        s->lost = rtp_lost(s);
        begin_sequence(s, sequence);
        s->restarts++;
        s->has_transit = false;
        s->rate_from = 0;
        return *newest = true;
    }
    s->restart_armed = true;
    s->restart_at = (uint16_t)(sequence + 1);
    return false;
}

uint64_t rtp_lost(const struct rtp_stream *s)
{
    return s->lost + (uint64_t)__builtin_popcountll(~s->window);
}

/* --------------------------------------------------------------------------------------- jitter */

/* RFC 3551 6; 0 where the payload type is agreed on by each call. */
static uint32_t static_rate(uint8_t payload_type)
{
    switch (payload_type) {
    case 6:
    case 17:
        return payload_type == 6 ? 16000 : 22050;
    case 10:
    case 11:
        return 44100;
    case 16:
        return 11025;
    case 14:
    case 25:
    case 26:
    case 28:
    case 31:
    case 32:
    case 33:
    case 34:
        return 90000;
    default:
        return payload_type <= 18 && payload_type != 1 && payload_type != 2 ? 8000 : 0;
    }
}

/* The usual one that is next to what was measured, if it is near enough. */
static uint32_t usual_rate(uint64_t measured)
{
    static const uint32_t usual[] = {8000,  11025, 12000, 16000, 22050,
                                     24000, 32000, 44100, 48000, 90000};
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
        if (measured > usual[i] - usual[i] / 25 && measured < usual[i] + usual[i] / 25)
            return usual[i];
    return 0;
}

/* Where no table has the rate of a clock: by how much it went on while ours did. */
static void measure_rate(struct rtp_stream *s, uint32_t timestamp, uint64_t now)
{
    if (s->rate_from == 0 || now - s->rate_from > RATE_MAX_NS) {
        s->rate_from = now;
        s->rate_ts = timestamp;
        return;
    }
    uint64_t took = now - s->rate_from;
    if (took >= RATE_NS)
        s->rate = usual_rate((uint64_t)(timestamp - s->rate_ts) * 1000000 / (took / 1000));
}

static uint32_t as_timestamp(uint64_t ns, uint32_t rate)
{
    return (uint32_t)(ns / NS_PER_S * rate + ns % NS_PER_S * rate / NS_PER_S);
}

/* RFC 3550 6.4.1 and A.8. */
static void take_jitter(struct rtp_stream *s, uint32_t timestamp, uint64_t now)
{
    uint32_t transit = as_timestamp(now - s->first, s->rate) - timestamp;
    int32_t d = (int32_t)(transit - s->transit);
    bool had = s->has_transit;
    s->transit = transit;
    s->has_transit = true;
    if (!had)
        return;
    uint32_t by = d < 0 ? -(uint32_t)d : (uint32_t)d;
    if (by > 10 * s->rate)
        return; /* the timestamps begin anew */
    s->jitter += by - ((s->jitter + 8) >> 4);
    s->jitter_max = MAX(s->jitter_max, s->jitter);
}

uint32_t rtp_jitter_us(const struct rtp_stream *s, uint32_t jitter)
{
    return s->rate ? (uint32_t)((uint64_t)(jitter >> 4) * 1000000 / s->rate) : 0;
}

/* ---------------------------------------------------------------------------------------- a source
 */

void rtp_begin(struct rtp_stream *s, const struct rtp_header *h, uint64_t now)
{
    s->ssrc = h->ssrc;
    s->payload_type = h->payload_type;
    s->rate = static_rate(h->payload_type);
    s->first = s->last = now;
    begin_sequence(s, h->sequence);
}

static void note_silence(struct rtp_stream *s, uint64_t now)
{
    uint64_t gap = now - s->last;
    s->last = now;
    if (gap < SILENCE_NS)
        return;
    s->silences++;
    s->silent += gap;
    s->silent_max = MAX(s->silent_max, gap);
}

/* A clock stays what it is (RFC 3550 5.2) unless the table of types says otherwise. */
static void take_type(struct rtp_stream *s, uint8_t payload_type)
{
    uint32_t rate = static_rate(payload_type);
    s->payload_type = payload_type;
    if (rate == 0 || rate == s->rate)
        return;
    s->rate = rate;
    s->jitter = 0;
    s->has_transit = false;
}

void rtp_take(struct rtp_stream *s, const struct rtp_header *h, size_t len, uint64_t now)
{
    bool newest;
    if (!in_sequence(s, h->sequence, &newest))
        return;
    note_silence(s, now);
    s->packets++;
    s->bytes += len;
    if (newest && s->payload_type != h->payload_type)
        take_type(s, h->payload_type);
    if (!s->rate)
        measure_rate(s, h->timestamp, now);
    else
        take_jitter(s, h->timestamp, now);
}
