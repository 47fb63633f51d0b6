/*
 * Any bytes as what an allocation relays while it is looked at: split into datagrams, with times
 * between them. Nothing is read beyond a datagram's end, and what is counted adds up.
 */
#include "look.h"

#include "bytes.h"
#include "fuzz.h"

/* Each datagram: u8 what (bit 0 direction, bits 1 to 3 peer), u8 milliseconds since, u8 length. */
static size_t take(struct sight *l, const uint8_t *data, size_t size, uint64_t *now)
{
    size_t len = data[2] < size - 3 ? data[2] : size - 3;
    struct addr peer;
    FUZZ_ASSERT(addr_parse(&peer, "192.0.2.1", (uint16_t)(1 + (data[0] >> 1 & 7))));
    *now += data[1] * NS_PER_MS;
    uint8_t *copy = malloc(len ? len : 1); /* so that a byte too far is seen */
    if (!copy)
        abort();
    memcpy(copy, data + 3, len);
    look_packet(l, data[0] & 1, &peer, copy, len, *now);
    free(copy);
    return 3 + len;
}

static void check(const struct sight *l, uint64_t packets)
{
    uint64_t seen = l->flows_missed;
    FUZZ_ASSERT(l->flow_count <= LOOK_FLOWS && l->stream_count <= LOOK_STREAMS);
    for (unsigned i = 0; i < l->flow_count; i++)
        for (unsigned d = 0; d < 2; d++)
            for (unsigned kind = 0; kind < MEDIA_KINDS; kind++)
                seen += l->flows[i].side[d].packets[kind];
    FUZZ_ASSERT(seen == packets);
    for (unsigned i = 0; i < l->stream_count; i++) {
        const struct rtp_stream *s = &l->streams[i].rtp;
        FUZZ_ASSERT(s->packets + s->twice <= packets);
        FUZZ_ASSERT(s->valid || s->packets == 0);
        FUZZ_ASSERT(rtp_lost(s) < UINT32_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sight *l = look_begin(NS_PER_S);
    uint64_t now = NS_PER_S, packets = 0;
    if (!l)
        abort();
    while (size > 3) {
        size_t n = take(l, data, size, &now);
        data += n;
        size -= n;
        packets++;
    }
    check(l, packets);
    look_free(l);
    return 0;
}
