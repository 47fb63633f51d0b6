/*
 * ChannelData, and the first byte that tells it from STUN and DTLS.
 */
#include "stun.h"
#include "test.h"

static void channels(void)
{
    uint16_t number;
    const uint8_t *payload;
    size_t len;
    test_begin("ChannelData of every length against what it claims (RFC 8656 12.6)");
    for (size_t have = 0; have < 16; have++)
        for (size_t claim = 0; claim < 20; claim++) {
            uint8_t bytes[16] = {0x40, 0x01, 0, (uint8_t)claim};
            uint8_t *copy = test_exact(bytes, have);
            bool ok = channel_parse(copy, have, &number, &payload, &len);
            CHECK_EQ(ok, have >= 4 && claim <= have - 4);
            if (ok) {
                CHECK_EQ(number, 0x4001);
                CHECK(payload == copy + 4);
                CHECK_EQ(len, claim);
            }
            free(copy);
        }
    test_begin("ChannelData header written before a payload");
    uint8_t buf[8] = {'.', '.', '.', '.', 'a', 'b', 'c', 'd'};
    channel_put_header(buf + 4, 0x4fff, 4);
    CHECK_MEM(buf,
              "\x4f\xff\x00\x04"
              "abcd",
              8);

    test_begin("the first byte (RFC 7983, RFC 8656 12)");
    for (unsigned first = 0; first < 256; first++)
        CHECK_EQ(stun_demux((uint8_t)first), first < 4                     ? DEMUX_STUN
                                             : first >= 64 && first <= 127 ? DEMUX_CHANNEL
                                             : first >= 20 && first <= 63  ? DEMUX_DTLS
                                                                           : DEMUX_OTHER);
}

int main(void)
{
    channels();
    return test_end("stun_channel");
}
