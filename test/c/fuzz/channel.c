/*
 * Any bytes to the framing around payloads: ChannelData apart and together again, and a Data
 * indication wrapped around the same payload in place.
 */
#include "stun.h"

#include "fuzz.h"

static uint8_t room[STUN_DATA_ROOM_V6 + 70000];

static void wrap(const uint8_t *payload, size_t len, const struct addr *peer)
{
    static const uint8_t txid[STUN_TXID_LEN + 1] = "fuzzing data";
    uint8_t *at = room + STUN_DATA_ROOM_V6;
    struct stun_view v;
    struct addr a;
    const uint8_t *value;
    size_t total, value_len;
    if (len)
        memcpy(at, payload, len);
    memset(at + len, 0xaa, STUN_DATA_TAIL);
    uint8_t *start = stun_wrap_data(at, len, peer, txid, &total);
    FUZZ_ASSERT((start == NULL) == (len > STUN_DATA_MAX));
    if (!start)
        return;
    FUZZ_ASSERT(stun_parse(&v, start, total) == STUN_OK);
    FUZZ_ASSERT(v.cls == STUN_INDICATION && v.method == STUN_DATA && v.unknown_count == 0);
    FUZZ_ASSERT(stun_get_addr(&v, A_xor_peer_address, &a) == STUN_OK && addr_equal(&a, peer));
    FUZZ_ASSERT(stun_get_bytes(&v, A_data, &value, &value_len) == STUN_OK);
    FUZZ_ASSERT(value == at && value_len == len);
    FUZZ_ASSERT(len == 0 || memcmp(value, payload, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t number, again;
    const uint8_t *payload, *inner;
    size_t len, inner_len;

    if (size > 0) {
        enum stun_demux kind = stun_demux(data[0]);
        FUZZ_ASSERT((kind == DEMUX_CHANNEL) == ((data[0] & 0xc0) == 0x40));
    }
    if (!channel_parse(data, size, &number, &payload, &len))
        return 0;
    FUZZ_ASSERT(payload == data + CHANNEL_HEADER_LEN && len <= size - CHANNEL_HEADER_LEN);

    uint8_t *at = room + CHANNEL_HEADER_LEN;
    if (len)
        memcpy(at, payload, len);
    channel_put_header(at, number, len);
    FUZZ_ASSERT(memcmp(room, data, CHANNEL_HEADER_LEN + len) == 0);
    FUZZ_ASSERT(channel_parse(room, CHANNEL_HEADER_LEN + len, &again, &inner, &inner_len));
    FUZZ_ASSERT(again == number && inner == at && inner_len == len);

    struct addr v4 = addr_from_v4(data, number);
    wrap(payload, len, &v4);
    if (size >= 16) {
        struct addr v6 = addr_from_v6(data, number);
        wrap(payload, len, &v6);
    }
    return 0;
}
