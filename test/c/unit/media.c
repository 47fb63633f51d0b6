/*
 * What headers of media tell (media.c): which protocol a datagram is of; of a source of RTP what
 * was lost, late, twice, in bursts, how uneven it came and when it was silent. Then through a
 * worker: LOOK counts what passes, ends by itself, and sees what would have come by a shortcut.
 */
#include "worker_kit.h"

enum { PACKET = 172, PERIOD_MS = 20, STEP = 160 };

static struct rtp_stream s;
static uint64_t now;

static size_t rtp(uint8_t *out, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint8_t type)
{
    memset(out, 0, PACKET);
    out[0] = 0x80;
    out[1] = type;
    store16(out + 2, sequence);
    store32(out + 4, timestamp);
    store32(out + 8, ssrc);
    return PACKET;
}

static void take(uint16_t sequence, uint32_t timestamp, uint8_t type)
{
    struct rtp_header h;
    size_t len = rtp(buf, 1, sequence, timestamp, type);
    CHECK(rtp_read(&h, buf, len));
    if (!s.first)
        rtp_begin(&s, &h, now);
    else
        rtp_take(&s, &h, len, now);
}

/* So many in order, one each period; the first is `from`. */
static void run(uint16_t from, unsigned n)
{
    for (unsigned i = 0; i < n; i++, now += PERIOD_MS * NS_PER_MS)
        take((uint16_t)(from + i), (from + i) * STEP, 0);
}

static void begin(void)
{
    memset(&s, 0, sizeof(s));
    now = NS_PER_S;
}

static void demultiplexes(void)
{
    static const struct {
        uint8_t bytes[24];
        size_t len;
        enum media_kind kind;
    } rows[] = {
        {{0, 1}, 20, MEDIA_STUN},    {{0, 1}, 19, MEDIA_OTHER},    {{3}, 20, MEDIA_STUN},
        {{4}, 20, MEDIA_OTHER},      {{19}, 20, MEDIA_OTHER},      {{20}, 20, MEDIA_DTLS},
        {{63}, 1, MEDIA_DTLS},       {{64}, 20, MEDIA_OTHER},      {{127}, 20, MEDIA_OTHER},
        {{128, 0}, 12, MEDIA_RTP},   {{128, 0}, 11, MEDIA_OTHER},  {{191, 96}, 12, MEDIA_RTP},
        {{128, 200}, 8, MEDIA_RTCP}, {{128, 200}, 7, MEDIA_OTHER}, {{128, 192}, 8, MEDIA_RTCP},
        {{128, 223}, 8, MEDIA_RTCP}, {{128, 224}, 12, MEDIA_RTP},  {{128, 191}, 12, MEDIA_RTP},
        {{192}, 20, MEDIA_OTHER},    {{0}, 0, MEDIA_OTHER},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_EQ(media_kind(rows[i].bytes, rows[i].len), rows[i].kind);
}

static void recognises_checks_and_handshakes(void)
{
    uint8_t stun[20] = {0, 1}, record[14] = {22, 0xfe, 0xfd};
    CHECK_EQ(media_ice(stun, 20), ICE_REQUEST);
    stun[0] = 1;
    CHECK_EQ(media_ice(stun, 20), ICE_SUCCESS);
    stun[1] = 0x11;
    CHECK_EQ(media_ice(stun, 20), ICE_ERROR);
    stun[1] = 0x13; /* an error of Allocate */
    CHECK_EQ(media_ice(stun, 20), ICE_NONE);
    record[13] = 1;
    CHECK_EQ(media_dtls(record, 14), DTLS_SAID_CLIENT_HELLO);
    record[13] = 2;
    CHECK_EQ(media_dtls(record, 14), DTLS_SAID_SERVER_HELLO);
    record[4] = 1; /* the next epoch: encrypted */
    CHECK_EQ(media_dtls(record, 14), DTLS_SAID_FINISHED);
    record[0] = 21;
    CHECK_EQ(media_dtls(record, 14), DTLS_SAID_ALERT);
    CHECK_EQ(media_dtls(record, 13), 0);
    record[0] = 0x2f;
    CHECK_EQ(media_dtls(record, 1), DTLS_SAID_FINISHED);
}

static void keeps_headers(void)
{
    uint8_t d[64] = {0};
    CHECK_EQ(media_header_len(d, 0), 0);
    CHECK_EQ(media_header_len(d, 40), 40); /* STUN */
    d[0] = 0x92;                           /* RTP with two sources and an extension */
    CHECK_EQ(media_header_len(d, 64), 12 + 2 * 4);
    d[0] = 0x8f; /* which says that it has more than there is */
    CHECK_EQ(media_header_len(d, 20), 20);
    d[0] = 0x80;
    d[1] = 200;
    CHECK_EQ(media_header_len(d, 64), 8);
    d[0] = 22;
    CHECK_EQ(media_header_len(d, 64), 13 + 12);
    CHECK_EQ(media_header_len(d, 20), 20);
    d[0] = 23;
    CHECK_EQ(media_header_len(d, 64), 13);
    d[0] = 'x';
    CHECK_EQ(media_header_len(d, 64), 0);
}

static void reads_whole_headers_only(void)
{
    struct rtp_header h;
    size_t len = rtp(buf, 7, 5, 9, 96);
    CHECK(rtp_read(&h, buf, len));
    CHECK(h.ssrc == 7 && h.sequence == 5 && h.timestamp == 9 && h.payload_type == 96);
    CHECK_EQ(h.header_len, 12);
    buf[0] = 0x92; /* an extension, two sources */
    store16(buf + 12 + 8 + 2, 3);
    CHECK(rtp_read(&h, buf, 12 + 8 + 4 + 12));
    CHECK_EQ(h.header_len, 12 + 8 + 4 + 12);
    CHECK(!rtp_read(&h, buf, 12 + 8 + 4 + 11));
    CHECK(!rtp_read(&h, buf, 12 + 8 + 3));
    buf[0] = 0x40;
    CHECK(!rtp_read(&h, buf, len));
}

/* RFC 3550 A.1: one packet is no source. */
static void two_in_sequence_make_a_source(void)
{
    begin();
    take(10, 0, 0);
    take(500, 0, 0);
    CHECK(!s.valid);
    take(501, 0, 0);
    CHECK(s.valid);
    CHECK_EQ(s.packets, 1);
    CHECK_EQ(rtp_lost(&s), 0);
}

static void counts_what_is_lost(void)
{
    begin();
    run(65500, 100); /* over the end of the numbers */
    CHECK_EQ(s.packets, 99);
    CHECK_EQ(rtp_lost(&s), 0);
    run(65, 1); /* one is missing */
    CHECK_EQ(rtp_lost(&s), 1);
    run(71, 200); /* and five */
    CHECK_EQ(rtp_lost(&s), 6);
    CHECK_EQ(s.bursts, 1);
    CHECK_EQ(s.run_max, 5);
    CHECK_EQ(s.packets, 300);
    CHECK_EQ(s.late + s.twice, 0);
}

static void late_is_not_lost(void)
{
    begin();
    run(0, 10);
    run(11, 1);
    CHECK_EQ(rtp_lost(&s), 1);
    run(10, 1);
    CHECK_EQ(rtp_lost(&s), 0);
    CHECK_EQ(s.late, 1);
    run(10, 1);
    CHECK_EQ(s.twice, 1);
    CHECK_EQ(s.packets, 11);
    run(13, 80); /* 12 has left the window */
    CHECK_EQ(s.lost, 1);
    run(12, 1);
    CHECK_EQ(rtp_lost(&s), 0);
}

/* RFC 3550 A.1: a jump is nothing until the next packet confirms it. */
static void begins_anew(void)
{
    begin();
    run(0, 100);
    run(30000, 1);
    CHECK_EQ(s.packets, 99);
    run(100, 1);
    CHECK_EQ(s.packets, 100);
    run(40000, 2);
    CHECK_EQ(s.restarts, 1);
    run(40002, 10);
    CHECK_EQ(s.packets, 111);
    CHECK_EQ(rtp_lost(&s), 0);
}

/* Every second packet comes 10 ms late: |D| is 10 ms each time, which is where J goes. */
static void jitter_as_in_6_4_1(void)
{
    begin();
    for (unsigned i = 0; i < 500; i++) {
        now = NS_PER_S + (i * 20 + (i & 1) * 10) * NS_PER_MS;
        take((uint16_t)i, i * STEP, 0);
    }
    uint32_t us = rtp_jitter_us(&s, s.jitter);
    CHECK(us > 9000 && us <= 10000);
    begin();
    run(0, 500);
    CHECK_EQ(rtp_jitter_us(&s, s.jitter), 0);
}

/* Of a payload type without a table the clock is measured. */
static void measures_a_clock(void)
{
    begin();
    for (unsigned i = 0; i < 300; i++, now += 20 * NS_PER_MS)
        take((uint16_t)i, 77 + i * 960, 111);
    CHECK_EQ(s.rate, 48000);
    CHECK_EQ(rtp_jitter_us(&s, s.jitter), 0);
}

static void notes_silence(void)
{
    begin();
    run(0, 100);
    now += 3 * NS_PER_S;
    run(100, 100);
    CHECK_EQ(s.silences, 1);
    CHECK(s.silent >= 3 * NS_PER_S && s.silent < 4 * NS_PER_S);
    CHECK_EQ(s.silent_max, s.silent);
    CHECK_EQ(rtp_lost(&s), 0);
}

/* ----------------------------------------------------------------------------- through a worker */

static uint16_t look(uint32_t ms, struct ctl_frame *out)
{
    struct ctl_frame f = {.code = CTL_LOOK, .u.look = {.session = ID, .lifetime_ms = ms}};
    kit_command(&k, &f);
    CHECK(kit_frame(&k, out));
    return out->code == CTL_REPLY ? out->u.reply.status : CTL_OK;
}

static void from_client(uint16_t number, uint16_t sequence)
{
    uint8_t packet[4 + PACKET];
    rtp(packet + 4, 0xabc, sequence, sequence * STEP, 0);
    channel_put_header(packet + 4, number, PACKET);
    kit_from_client(&k, packet, sizeof(packet));
}

static void a_worker_looks(void)
{
    struct ctl_frame f;
    kit_start(&k);
    struct session *session = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    from_client(0x4001, 1);
    CHECK(!session->detour && !session->look); /* nobody looks: nothing is kept */
    CHECK_EQ(look(0, &f), CTL_REFUSED);
    CHECK(!session->look);

    CHECK_EQ(look(1000, &f), CTL_OK);
    CHECK(session->detour);
    CHECK_EQ(f.u.looked.flows.len, 0);
    for (uint16_t i = 0; i < 10; i++)
        if (i != 5)
            from_client(0x4001, i);
    kit_from_peer(&k, &session->relayed[0], &k.peer, "x", 1);
    struct addr stranger = k.peer;
    stranger.ip[15]++;
    kit_from_peer(&k, &session->relayed[0], &stranger, "x", 1);
    from_client(0x4009, 1);
    CHECK_EQ(look(1000, &f), CTL_OK);
    CHECK_EQ(f.u.looked.flows.len, 19 + 2 * 69);
    CHECK_EQ(f.u.looked.streams.len, 95);
    const uint8_t *row = f.u.looked.streams.data;
    CHECK_EQ(row[0], TO_PEER);
    CHECK_EQ(load32(row + 3), 0xabc);
    CHECK_EQ(load64(row + 11), 8); /* but the first, which makes no source */
    CHECK_EQ(load64(row + 27), 1);
    CHECK_EQ(f.u.looked.drops.len, 2 * 26);

    while (took(&sent)) /* relayed all the same */
        ;
    kit_turn(&k, 1500); /* nobody has asked again */
    from_client(0x4001, 20);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, PACKET);
    CHECK(!session->look && !session->detour);
    CHECK_EQ(k.worker.shard.sessions.looks, 0);
    CHECK_EQ(look(1000, &f), CTL_OK); /* kit_stop sees that it goes with its session */
    kit_stop(&k);
}

static void is_bounded(void)
{
    struct sight *l = look_begin(NS_PER_S);
    struct addr peer;
    CHECK(l && addr_parse(&peer, "192.0.2.1", 1));
    for (uint32_t i = 0; i < 100; i++) {
        peer.port = (uint16_t)(1000 + i % (LOOK_FLOWS + 1));
        look_packet(l, TO_PEER, &peer, buf, rtp(buf, i, 1, 1, 0), NS_PER_S);
    }
    CHECK_EQ(l->flow_count, LOOK_FLOWS);
    CHECK_EQ(l->stream_count, LOOK_STREAMS);
    CHECK(l->flows_missed > 0 && l->streams_missed > 0);
    peer.port = 1000; /* who has been silent makes room */
    look_packet(l, TO_PEER, &peer, buf, rtp(buf, 9999, 1, 1, 0), 20 * NS_PER_S);
    bool found = false;
    for (unsigned i = 0; i < l->stream_count; i++)
        found |= l->streams[i].rtp.ssrc == 9999;
    CHECK(found);
    look_free(l);
}

int main(void)
{
    RUN(demultiplexes);
    RUN(recognises_checks_and_handshakes);
    RUN(keeps_headers);
    RUN(reads_whole_headers_only);
    RUN(two_in_sequence_make_a_source);
    RUN(counts_what_is_lost);
    RUN(late_is_not_lost);
    RUN(begins_anew);
    RUN(jitter_as_in_6_4_1);
    RUN(measures_a_clock);
    RUN(notes_silence);
    RUN(a_worker_looks);
    RUN(is_bounded);
    return test_end("media");
}
