/*
 * What a worker relays between clients and peers: Send and Data, channels, ICMP, DONT-FRAGMENT. How
 * much of it may pass, and how much strangers may ask. Row numbers are those of the conformance
 * (T), threat (X) and compatibility (K) tables.
 */
#include "worker_kit.h"

/* Datagrams come as segments of GRO do, without room around them. */
static bool crowded;

static void t37_send_and_data(void)
{
    kit_start(&k);
    fake_io_crowd(k.io, crowded);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK(s);
    size_t len = send_indication(buf, sizeof(buf), &k.peer, "hello");
    kit_from_client(&k, buf, len);
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_no_permission), 1);

    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    kit_from_client(&k, buf, len);
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[0].io);
    CHECK(addr_equal(&sent.to, &k.peer));
    CHECK_EQ(sent.len, 5);
    CHECK_MEM(sent.data, "hello", 5);

    /* T37: no bytes are a payload too */
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.peer, ""));
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 0);

    kit_from_peer(&k, &s->relayed[0], &k.peer, "back!", 5);
    CHECK(took(&sent));
    struct stun_view v;
    struct addr from;
    const uint8_t *data;
    size_t data_len;
    CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
    CHECK_EQ(v.method, STUN_DATA);
    CHECK_EQ(v.cls, STUN_INDICATION);
    CHECK_EQ(stun_get_addr(&v, A_xor_peer_address, &from), STUN_OK);
    CHECK(addr_equal(&from, &k.peer));
    CHECK_EQ(stun_get_bytes(&v, A_data, &data, &data_len), STUN_OK);
    CHECK_EQ(data_len, 5);
    CHECK_MEM(data, "back!", 5);

    struct addr stranger = k.peer;
    stranger.ip[15]++;
    kit_from_peer(&k, &s->relayed[0], &stranger, "x", 1);
    CHECK(nothing_sent());
    kit_stop(&k);
}

static void t42_t43_channel_data(void)
{
    kit_start(&k);
    fake_io_crowd(k.io, crowded);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "hello"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));
    CHECK_EQ(sent.len, 5);

    kit_from_peer(&k, &s->relayed[0], &k.peer, "back!", 5);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 9); /* K18: no padding over UDP */
    CHECK_MEM(sent.data,
              "\x40\x01\x00\x05"
              "back!",
              9);

    /* K19: another port of the peer comes as Data */
    struct addr other_port = k.peer;
    other_port.port++;
    kit_from_peer(&k, &s->relayed[0], &other_port, "hey", 3);
    CHECK(took(&sent));
    CHECK_EQ(load16(sent.data), 0x0017);

    kit_from_client(&k, buf, channel_data(buf, 0x4002, "x"));
    CHECK_EQ(kit_count(&k, CTR_no_channel), 1);
    size_t len = channel_data(buf, 0x4001, "hello");
    kit_from_client(&k, buf, len - 1); /* shorter than it claims */
    CHECK_EQ(kit_count(&k, CTR_bad_channel), 1);
    buf[len] = buf[len + 1] = 0; /* padded: tolerated */
    kit_from_client(&k, buf, len + 2);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 5);
    CHECK(nothing_sent());
    kit_stop(&k);
}

static void segments_without_room_are_relayed_alike(void)
{
    crowded = true;
    t37_send_and_data();
    t42_t43_channel_data();
    crowded = false;
}

static void t40_numbers_above_4fff_are_no_channels(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x5000, &k.peer, 600000, 300000), CTL_REFUSED);
    kit_from_client(&k, buf, channel_data(buf, 0x5000, "x"));
    CHECK_EQ(kit_count(&k, CTR_bad_channel), 1);
    CHECK(nothing_sent());
    kit_stop(&k);
}

static void x79_channel_conflicts(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr other = k.peer;
    other.port++;
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &other, 600000, 300000), CTL_CONFLICT);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &k.peer, 600000, 300000), CTL_CONFLICT);
    kit_turn(&k, 600001);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &other, 600000, 300000), CTL_GONE);
    kit_stop(&k);
}

static void t39_icmp_is_told_for_permitted_peers_only(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    struct io_icmp icmp = {.peer = k.peer, .type = 3, .code = 4, .mtu = 1280};
    fake_io_icmp(k.io, &s->relayed[0].io, &icmp);
    CHECK(nothing_sent());
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    fake_io_icmp(k.io, &s->relayed[0].io, &icmp);
    CHECK(took(&sent));
    struct stun_view v;
    struct addr peer;
    const uint8_t *value;
    size_t len;
    CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
    CHECK_EQ(v.method, STUN_DATA); /* MUST, even with a channel */
    CHECK_EQ(v.cls, STUN_INDICATION);
    CHECK(!stun_has(&v, A_data));
    CHECK_EQ(stun_get_addr(&v, A_xor_peer_address, &peer), STUN_OK);
    CHECK(addr_equal(&peer, &k.peer));
    value = v.data + v.at[A_icmp] + STUN_ATTR_HEADER_LEN;
    len = load16(value - 2);
    CHECK_EQ(len, 8);
    CHECK_MEM(value, "\0\0\3\4\0\0\5\0", 8);
    kit_stop(&k);
}

static void x80_dont_fragment_is_honoured_for_send(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {1};
    stun_build_start(&b, buf, sizeof(buf), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, &k.peer);
    stun_put_bytes(&b, A_dont_fragment, "", 0);
    stun_put_bytes(&b, A_data, "whole", 5);
    kit_from_client(&k, buf, stun_build_end(&b));
    CHECK(took(&sent));
    CHECK_EQ(sent.flags, IO_DONT_FRAGMENT);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.peer, "any"));
    CHECK(took(&sent));
    CHECK_EQ(sent.flags, 0);
    kit_stop(&k);
}

static void t44_dont_fragment_is_ignored_towards_ipv6(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, false, true, 600000);
    struct addr v6 = {0};
    CHECK(addr_parse(&v6, "2001:db8::7", 9));
    CHECK_EQ(kit_permit(&k, ID, &v6, 300000), CTL_OK);
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {1};
    stun_build_start(&b, buf, sizeof(buf), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, &v6);
    stun_put_bytes(&b, A_dont_fragment, "", 0);
    stun_put_bytes(&b, A_data, "any", 3);
    kit_from_client(&k, buf, stun_build_end(&b));
    CHECK(took(&sent));
    CHECK_EQ(sent.flags, 0);
    kit_stop(&k);
}

/* Erlang knows addresses without their link. */
static void link_local_clients_are_sent_to_on_their_link(void)
{
    kit_start(&k);
    CHECK(addr_parse(&k.client, "fe80::9", 5000));
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    k.client.scope = 3;
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    CHECK(took(&sent));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent) && addr_equal(&sent.to, &k.client));
    CHECK_EQ(sent.to.scope, 3);

    /* Nor where it moves to. */
    CHECK(addr_parse(&k.client, "fe80::10", 5000));
    CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
    k.client.scope = 4;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    CHECK(took(&sent));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent) && addr_equal(&sent.to, &k.client));
    CHECK_EQ(sent.to.scope, 4);
    kit_stop(&k);
}

static void x22_strangers_get_their_share_and_no_more(void)
{
    kit_start(&k);
    ratelimit_init(&k.limits.unauthenticated, 10, 20);
    size_t len = bare_request(buf, sizeof(buf), STUN_ALLOCATE);
    unsigned answered = 0;
    for (int i = 0; i < 1000; i++) { /* a second's worth, from many ports */
        k.client.port = (uint16_t)(10000 + i);
        kit_from_client(&k, buf, len);
        answered += took(&sent);
        kit_turn(&k, 1);
    }
    CHECK(answered >= 29 && answered <= 30);
    CHECK_EQ(kit_count(&k, CTR_over_rate), 1000 - answered);
    struct ctl_frame f; /* Erlang hears of it once */
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_OVER_RATE);
    CHECK_EQ(f.u.over_rate.failures, 0);
    CHECK(!kit_frame(&k, &f));
    struct addr first = k.client;
    k.client.ip[15]++; /* somebody else is not concerned */
    kit_from_client(&k, buf, len);
    CHECK(took(&sent));
    k.client = first; /* nor is what needs credentials */
    CHECK(kit_allocate(&k, ID, true, false, 600000));
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    for (int i = 0; i < 50; i++) {
        kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
        CHECK(took(&sent));
    }
    kit_stop(&k);
}

/* A flood that has emptied one place of many prefixes leaves them the other. */
static void x22_a_flood_of_few_sources_leaves_others_their_share(void)
{
    static struct ratelimit r;
    struct addr source = {.family = ADDR_V4};
    unsigned served = 0;
    ratelimit_init(&r, 10, 20);
    for (uint32_t i = 0; i < RATELIMIT_BUCKETS / 8; i++) {
        store32(source.ip + 12, 0x0b000000 + i);
        while (ratelimit_take(&r, &source, 1))
            ;
    }
    for (uint32_t i = 0; i < 1000; i++) {
        store32(source.ip + 12, 0x0c000000 + i);
        served += ratelimit_take(&r, &source, 1);
    }
    CHECK(served >= 900);
}

static void x82_strangers_leave_nothing_behind(void)
{
    kit_start(&k);
    size_t len = bare_request(buf, sizeof(buf), STUN_ALLOCATE);
    for (uint32_t i = 0; i < 100000; i++) {
        store32(k.client.ip + 12, 0x0b000000 + i * 2654435761u % 0x01000000);
        k.client.port = (uint16_t)(1024 + i % 60000);
        kit_from_client(&k, buf, len);
        CHECK(took(&sent));
    }
    struct ctl_frame f;
    CHECK(!kit_frame(&k, &f));
    CHECK_EQ(k.worker.shard.sessions.session_slab.live, 0);
    CHECK_EQ(k.worker.shard.pending.slab.live, 0);
    CHECK_EQ(k.worker.shard.sessions.timers.count, 0);
    CHECK_EQ(kit_count(&k, CTR_challenges), 100000);
    kit_stop(&k);
}

/* Bytes that pass in ten seconds when datagrams of 500, with their headers, come every millisecond.
 */
static size_t through(struct session *s, bool to_peer)
{
    enum { PAYLOAD = 500 - 28 };
    static uint8_t payload[4 + PAYLOAD];
    size_t passed = 0;
    channel_put_header(payload + 4, 0x4001, PAYLOAD);
    for (int ms = 0; ms < 10000; ms++) {
        kit_turn(&k, 1);
        if (to_peer)
            kit_from_client(&k, payload, sizeof(payload));
        else
            kit_from_peer(&k, &s->relayed[0], &k.peer, payload, PAYLOAD);
        while (took(&sent))
            passed += 500;
    }
    return passed;
}

static void x83_bandwidth_is_kept_within_five_per_cent(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(through(s, true), 5000000); /* no limit, nothing lost */
    s->rate = bandwidth(50000);
    session_set_detour(s);
    size_t burst = 2 * 65536, up = through(s, true);
    CHECK(up >= 475000 && up <= 525000 + burst);
    up = through(s, true); /* the burst is spent */
    CHECK(up >= 475000 && up <= 525000);
    size_t down = through(s, false); /* the other direction is by itself */
    CHECK(down >= 475000 && down <= 525000 + burst);
    s->rate = bandwidth(0);
    session_set_detour(s);
    s->user = &k.users[1]; /* shared by the user's allocations */
    session_set_detour(s);
    shared_bucket_set(s->user, bandwidth(100000));
    through(s, true);
    up = through(s, true);
    CHECK(up >= 950000 && up <= 1050000);
    s->user = NULL;
    session_set_detour(s);
    shared_bucket_set(&k.limits.total, bandwidth(100000));
    through(s, true);
    up = through(s, true);
    CHECK(up >= 950000 && up <= 1050000);
    CHECK(kit_count(&k, CTR_over_bandwidth) > 0);
    kit_stop(&k);
}

int main(void)
{
    RUN(t37_send_and_data);
    RUN(t42_t43_channel_data);
    RUN(segments_without_room_are_relayed_alike);
    RUN(t40_numbers_above_4fff_are_no_channels);
    RUN(x79_channel_conflicts);
    RUN(t39_icmp_is_told_for_permitted_peers_only);
    RUN(x80_dont_fragment_is_honoured_for_send);
    RUN(t44_dont_fragment_is_ignored_towards_ipv6);
    RUN(link_local_clients_are_sent_to_on_their_link);
    RUN(x22_strangers_get_their_share_and_no_more);
    RUN(x22_a_flood_of_few_sources_leaves_others_their_share);
    RUN(x82_strangers_leave_nothing_behind);
    RUN(x83_bandwidth_is_kept_within_five_per_cent);
    return test_end("relaying");
}
