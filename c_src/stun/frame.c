#include "frame.h"

/* Of ChannelData; 0 when there is none of that length. */
static size_t channel_len(const uint8_t *header, uint16_t channel_max)
{
    size_t payload = load16(header + 2);
    if (load16(header) > channel_max || payload > FRAME_CHANNEL_MAX)
        return 0;
    return CHANNEL_HEADER_LEN + payload;
}

/* Likewise of a STUN message. The sum is no 16-bit one: lengths near 65,535 must not wrap. */
static size_t stun_len(const uint8_t *header)
{
    size_t len = STUN_HEADER_LEN + (size_t)load16(header + 2);
    return len % 4 == 0 && len <= STUN_LEN_MAX ? len : 0;
}

/* The cookie, as far as it is there. */
static bool is_cookie(const uint8_t *data, size_t len)
{
    uint8_t cookie[4];
    store32(cookie, STUN_MAGIC_COOKIE);
    return memcmp(data, cookie, MIN(len, sizeof(cookie))) == 0;
}

enum frame_verdict frame_next(const uint8_t *data, size_t len, uint16_t channel_max,
                              struct frame *out)
{
    if (len == 0) {
        *out = (struct frame){.size = FRAME_HEADER_LEN};
        return FRAME_MORE;
    }
    enum stun_demux kind = stun_demux(data[0]);
    if ((kind != DEMUX_STUN && kind != DEMUX_CHANNEL) ||
        (kind == DEMUX_CHANNEL && data[0] > channel_max >> 8))
        return FRAME_BAD;
    if (len < FRAME_HEADER_LEN) {
        *out = (struct frame){.size = FRAME_HEADER_LEN};
        return FRAME_MORE;
    }
    size_t message = kind == DEMUX_STUN ? stun_len(data) : channel_len(data, channel_max);
    if (message == 0 ||
        (kind == DEMUX_STUN && !is_cookie(data + FRAME_HEADER_LEN, len - FRAME_HEADER_LEN)))
        return FRAME_BAD;
    *out = (struct frame){.len = message, .size = message + frame_padding(message)};
    return len < out->size ? FRAME_MORE : FRAME_WHOLE;
}

/* The length of the attribute DATA among those that begin in what is there; 0 without. */
static size_t data_len(const uint8_t *message, size_t len)
{
    size_t at = STUN_HEADER_LEN;
    while (at + STUN_ATTR_HEADER_LEN <= len) {
        size_t value = load16(message + at + 2);
        if (load16(message + at) == stun_attr_table[A_data].code)
            return value;
        at += STUN_ATTR_HEADER_LEN + value + frame_padding(value);
    }
    return 0;
}

bool frame_carries(const uint8_t *start, size_t len, struct frame_media *out)
{
    if (len >= CHANNEL_HEADER_LEN && stun_demux(start[0]) == DEMUX_CHANNEL) {
        out->payload = load16(start + 2);
        out->len = CHANNEL_HEADER_LEN + out->payload;
        return true;
    }
    if (len < STUN_HEADER_LEN || load16(start) != (STUN_DATA | STUN_INDICATION << 4))
        return false;
    out->len = STUN_HEADER_LEN + (size_t)load16(start + 2);
    out->payload = data_len(start, len);
    return true;
}
