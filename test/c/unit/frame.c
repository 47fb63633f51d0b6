/*
 * Frames of a stream: every split, every join, padding, and what has no end (RFC 8656 12.5;
 * threats X91, X92, X93).
 */
#include "frame.h"

#include "test.h"

enum { CAP = 8192, NARROW = CHANNEL_MAX, WIDE = CHANNEL_MAX_WIDE };

/* A conversation: STUN and ChannelData of lengths that need 0 to 3 bytes of padding. */
static uint8_t stream[CAP];
static size_t stream_len;
static size_t lengths[64];
static unsigned frames;

static void put_channel(uint16_t number, size_t payload)
{
    uint8_t *at = stream + stream_len;
    store16(at, number);
    store16(at + 2, (uint16_t)payload);
    memset(at + 4, 0x16, payload); /* which looks like the start of something else */
    lengths[frames++] = 4 + payload;
    stream_len += 4 + payload;
    memset(stream + stream_len, 0xee, frame_padding(payload));
    stream_len += frame_padding(payload);
}

static void put_stun(size_t data)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {1}, value[64] = {0};
    stun_build_start(&b, stream + stream_len, CAP - stream_len, STUN_REQUEST, STUN_BINDING, txid);
    if (data)
        stun_put_bytes(&b, A_data, value, data);
    size_t len = stun_build_end(&b);
    lengths[frames++] = len;
    stream_len += len;
}

static void conversation(void)
{
    put_stun(0);
    for (size_t payload = 0; payload < 9; payload++)
        put_channel((uint16_t)(CHANNEL_MIN + payload), payload);
    put_stun(5);
    put_channel(CHANNEL_MAX, 129);
    put_stun(64);
}

/* Reads the stream as it comes in pieces that end at `first` and then every `step` bytes. */
static bool read_in_pieces(size_t first, size_t step)
{
    size_t at = 0, there = first;
    unsigned seen = 0;
    for (;;) {
        struct frame f;
        uint8_t *copy = test_exact(stream + at, there - at);
        enum frame_verdict v = frame_next(copy, there - at, NARROW, &f);
        free(copy);
        if (v == FRAME_WHOLE) {
            if (seen == frames || f.len != lengths[seen++])
                return false;
            at += f.size;
        } else if (v == FRAME_BAD || f.size > FRAME_MAX || f.size <= there - at) {
            return false;
        } else if (there == stream_len) {
            return seen == frames && at == stream_len;
        } else {
            there = MIN(there + step, stream_len);
        }
    }
}

static void every_split(void)
{
    test_begin("every split and every join (X92)");
    bool ok = true;
    for (size_t first = 0; first <= stream_len; first++)
        ok = ok && read_in_pieces(first, stream_len);
    CHECK(ok);
    for (size_t step = 1; step < 40; step++)
        CHECK(read_in_pieces(0, step));
}

static enum frame_verdict verdict(uint16_t type, uint16_t len, uint16_t channel_max)
{
    struct frame f;
    uint8_t header[4];
    store16(header, type);
    store16(header + 2, len);
    return frame_next(header, sizeof(header), channel_max, &f);
}

static void lengths_that_wrap(void)
{
    test_begin("lengths that pass what a frame may have (X91)");
    for (unsigned len = 65516; len <= 65535; len++)
        CHECK_EQ(verdict(0x0001, (uint16_t)len, NARROW), FRAME_BAD);
    for (unsigned len = 65508; len <= 65535; len++)
        CHECK_EQ(verdict(0x4000, (uint16_t)len, NARROW), FRAME_BAD);
    CHECK_EQ(verdict(0x0001, 65512, NARROW), FRAME_MORE);
    CHECK_EQ(verdict(0x4000, 65507, NARROW), FRAME_MORE);
    test_begin("STUN is a multiple of 4 long (X91)");
    for (unsigned len = 0; len < 64; len++)
        CHECK_EQ(verdict(0x0001, (uint16_t)len, NARROW), len % 4 ? FRAME_BAD : FRAME_MORE);
}

static void first_bytes(void)
{
    test_begin("first bytes that are nobody's (X93)");
    struct frame f;
    for (unsigned b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        CHECK_EQ(frame_next(&byte, 1, NARROW, &f),
                 b < 4 || (b >= 0x40 && b < 0x50) ? FRAME_MORE : FRAME_BAD);
        CHECK_EQ(frame_next(&byte, 1, WIDE, &f),
                 b < 4 || (b >= 0x40 && b < 0x80) ? FRAME_MORE : FRAME_BAD);
    }
    CHECK_EQ(frame_next(NULL, 0, NARROW, &f), FRAME_MORE);
    CHECK_EQ(f.size, FRAME_HEADER_LEN);
    CHECK_EQ(verdict(0x4fff, 4, 0x4ffe), FRAME_BAD);
    CHECK_EQ(verdict(0x4ffe, 4, 0x4ffe), FRAME_MORE);

    test_begin("a message without cookie is none, as soon as that can be seen");
    uint8_t classic[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43};
    CHECK_EQ(frame_next(classic, 4, NARROW, &f), FRAME_MORE);
    CHECK_EQ(frame_next(classic, 7, NARROW, &f), FRAME_MORE);
    CHECK_EQ(frame_next(classic, 8, NARROW, &f), FRAME_BAD);
    CHECK_EQ(frame_next(classic, 20, NARROW, &f), FRAME_BAD);
}

int main(void)
{
    conversation();
    every_split();
    lengths_that_wrap();
    first_bytes();
    return test_end("frame");
}
