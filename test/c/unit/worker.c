/*
 * A worker's whole life on a clock of ours: what comes in, what goes out, what ends when. Row
 * numbers are those of the conformance (T), threat (X) and compatibility (K) tables.
 */
#include "move.h"
#include "relay_kit.h"
#include "test.h"

#define ID 42u

static struct kit k;

static bool took(struct fake_sent *out)
{
    return fake_io_take(k.io, out);
}

static bool nothing_sent(void)
{
    struct fake_sent s;
    return !fake_io_take(k.io, &s);
}

static size_t send_indication(uint8_t *buf, size_t cap, const struct addr *peer, const char *text)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {1};
    stun_build_start(&b, buf, cap, STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, peer);
    stun_put_bytes(&b, A_data, text, strlen(text));
    return stun_build_end(&b);
}

static size_t channel_data(uint8_t *buf, uint16_t number, const char *text)
{
    size_t len = strlen(text);
    memcpy(buf + 4, text, len);
    channel_put_header(buf + 4, number, len);
    return len + 4;
}

static size_t bare_request(uint8_t *buf, size_t cap, uint16_t method)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {2};
    stun_build_start(&b, buf, cap, STUN_REQUEST, method, txid);
    return stun_build_end(&b);
}

static struct fake_sent sent;
static uint8_t buf[2048];

static void x20_binding_is_answered_small(void)
{
    kit_start(&k);
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_BINDING));
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 32);
    CHECK(addr_equal(&sent.to, &k.client));
    struct stun_view v;
    struct addr mapped;
    CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
    CHECK_EQ(stun_get_addr(&v, A_xor_mapped_address, &mapped), STUN_OK);
    CHECK(addr_equal(&mapped, &k.client));
    kit_stop(&k);
}

/* A request as a client makes it after a challenge; the signature is for Erlang to judge. */
static size_t signed_request(uint8_t *out, const char *nonce, size_t nonce_len)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {3};
    stun_build_start(&b, out, 1024, STUN_REQUEST, STUN_ALLOCATE, txid);
    stun_put_bytes(&b, A_username, "u", 1);
    stun_put_bytes(&b, A_realm, "example.org", 11);
    stun_put_bytes(&b, A_nonce, nonce, nonce_len);
    stun_put_integrity(&b, "key", 3);
    return stun_build_end(&b);
}

static uint16_t error_code(const struct fake_sent *s)
{
    struct stun_view v;
    uint16_t code = 0;
    uint8_t family;
    const uint8_t *reason;
    size_t len;
    if (stun_parse(&v, s->data, s->len) == STUN_OK)
        stun_get_error(&v, A_error_code, &code, &family, &reason, &len);
    return code;
}

static size_t nonce_of(const struct fake_sent *s, char *nonce)
{
    struct stun_view v;
    const uint8_t *value;
    size_t len = 0;
    if (stun_parse(&v, s->data, s->len) == STUN_OK &&
        stun_get_bytes(&v, A_nonce, &value, &len) == STUN_OK)
        memcpy(nonce, value, len);
    return len;
}

static void s22_challenge_then_request_reaches_erlang(void)
{
    char nonce[128];
    struct ctl_frame f;
    kit_start(&k);
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(took(&sent));
    CHECK_EQ(error_code(&sent), 401);
    CHECK(sent.len <= 112); /* X21 */
    size_t n = nonce_of(&sent, nonce);
    CHECK_EQ(n, STUN_NONCE_LEN);
    CHECK(!kit_frame(&k, &f));

    size_t len = signed_request(buf, nonce, n);
    kit_from_client(&k, buf, len);
    CHECK(nothing_sent());
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_REQUEST);
    CHECK_EQ(f.u.request.session, 0);
    CHECK(addr_equal(&f.u.request.client, &k.client));
    CHECK(addr_equal(&f.u.request.server, &k.server));
    CHECK_EQ(f.u.request.packet.len, len);
    CHECK_MEM(f.u.request.packet.data, buf, len);

    struct ctl_frame answer = {
        .code = CTL_ANSWER,
        .u.answer = {.flow = f.u.request.flow, .packet = ctl_bytes_of("answer", 6)}};
    kit_command(&k, &answer);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 6);
    CHECK(addr_equal(&sent.to, &k.client));
    kit_command(&k, &answer); /* the credit is back: a second answer finds nobody */
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_late_answer), 1);
    kit_stop(&k);
}

/* The flow of a request that has come to Erlang. */
static uint64_t asked(void)
{
    char nonce[128];
    struct ctl_frame f;
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(took(&sent));
    kit_from_client(&k, buf, signed_request(buf, nonce, nonce_of(&sent, nonce)));
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_REQUEST);
    return f.u.request.flow;
}

/* For the command that comes next. */
static void promise(uint64_t flow, const void *packet, size_t len)
{
    struct ctl_frame f = {.code = CTL_ANSWER_IF,
                          .u.answer_if = {.flow = flow, .packet = ctl_bytes_of(packet, len)}};
    kit_command(&k, &f);
    CHECK(nothing_sent());
    k.ref--;
}

static void an_answer_leaves_when_its_command_is_done(void)
{
    static const uint8_t long_one[PROMISE_MAX + 1];
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    uint64_t flow = asked();
    promise(flow, "done", 4);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 4);
    CHECK_MEM(sent.data, "done", 4);
    CHECK(addr_equal(&sent.to, &k.client));

    /* What is refused has its answer still to come. */
    flow = asked();
    promise(flow, "done", 4);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &k.peer, 600000, 300000), CTL_CONFLICT);
    CHECK(nothing_sent());
    /* A promise is for one command and no later one. */
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    CHECK(nothing_sent());
    promise(flow, long_one, sizeof(long_one));
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    CHECK(nothing_sent());
    struct ctl_frame answer = {.code = CTL_ANSWER,
                               .u.answer = {.flow = flow, .packet = ctl_bytes_of("no", 2)}};
    kit_command(&k, &answer);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 2);
    CHECK_EQ(kit_count(&k, CTR_late_answer), 0);
    kit_stop(&k);
}

static unsigned told[2]; /* without haste, and at once */

static bool tell(void *ctx, unsigned worker, bool now)
{
    (void)ctx;
    (void)worker;
    told[now]++;
    return true;
}

static void told_at(uint64_t forward_ms, unsigned later, unsigned now)
{
    kit_turn(&k, forward_ms);
    CHECK_EQ(told[0], later);
    CHECK_EQ(told[1], now);
    told[0] = told[1] = 0;
}

/* What somebody waits for is written at once; the rest with it, or a millisecond later. */
static void what_nobody_waits_for_is_told_in_no_haste(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    uint64_t flow = asked();
    k.worker.config.tell = tell;
    promise(flow, "done", 4);
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    told_at(0, 1, 0);
    told_at(0, 0, 0);
    told_at(2, 0, 1);
    told_at(2, 0, 0);
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    told_at(0, 0, 1);
    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    kit_command(&k, &del);
    told_at(0, 1, 0);
    told_at(2, 0, 1);
    kit_stop(&k);
}

static void x30_x32_nonces_of_others_and_of_yesterday_earn_438(void)
{
    char nonce[128];
    kit_start(&k);
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(took(&sent));
    size_t n = nonce_of(&sent, nonce);
    size_t len = signed_request(buf, nonce, n);
    k.client.port++;
    kit_from_client(&k, buf, len);
    CHECK(took(&sent));
    CHECK_EQ(error_code(&sent), 438);
    k.client.port--;
    kit_turn(&k, 3601 * 1000);
    kit_from_client(&k, buf, len);
    CHECK(took(&sent));
    CHECK_EQ(error_code(&sent), 438);
    CHECK_EQ(nonce_of(&sent, nonce), STUN_NONCE_LEN);
    struct ctl_frame f;
    CHECK(!kit_frame(&k, &f));
    kit_stop(&k);
}

/* Erratum 6290: bit 0 of the features is the least significant. A nonce under other features than
 * ours is somebody's who bids down (X41). */
static void s19_s24_challenges_offer_what_the_nonce_says(void)
{
    static const char *const cookies[] = {"obMatJos2AAAA", "obMatJos2AAAB", "obMatJos2AAAC",
                                          "obMatJos2AAAD"};
    static const uint8_t offered[] = {0, 2, 0, 0, 0, 1, 0, 0};
    char nonce[128];
    struct ctl_frame f;
    kit_start(&k);
    for (uint32_t features = 0; features < ARRAY_SIZE(cookies); features++) {
        k.worker.shard.config.nonce_features = features;
        kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
        for (uint16_t code = 401; code; code = code == 401 ? 438 : 0) {
            struct stun_view v;
            const uint8_t *value;
            size_t len;
            CHECK(took(&sent));
            CHECK_EQ(error_code(&sent), code);
            CHECK(sent.len <= 112); /* X21 */
            CHECK_EQ(nonce_of(&sent, nonce), STUN_NONCE_LEN);
            CHECK_MEM(nonce, cookies[features], 13);
            CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
            CHECK(!stun_has(&v, A_username) && !stun_has(&v, A_userhash));
            if (features & STUN_FEATURE_PASSWORD_ALGORITHMS) {
                CHECK_EQ(stun_get_bytes(&v, A_password_algorithms, &value, &len), STUN_OK);
                CHECK_EQ(len, sizeof(offered));
                CHECK_MEM(value, offered, sizeof(offered));
            } else {
                CHECK(!stun_has(&v, A_password_algorithms));
            }
            kit_from_client(&k, buf, signed_request(buf, nonce, STUN_NONCE_LEN));
            CHECK(nothing_sent());
            CHECK(kit_frame(&k, &f));
            k.worker.shard.config.nonce_features = features ^ 1;
            kit_from_client(&k, buf, signed_request(buf, nonce, STUN_NONCE_LEN));
            CHECK(took(&sent));
            CHECK_EQ(error_code(&sent), 438);
            k.worker.shard.config.nonce_features = features;
            nonce[12] ^= 1;
            kit_from_client(&k, buf, signed_request(buf, nonce, STUN_NONCE_LEN));
            if (code == 438)
                CHECK(took(&sent));
        }
        kit_turn(&k, 11 * 1000); /* what Erlang was asked is over */
    }
    kit_stop(&k);
}

static void x21_the_longest_realm_fits_a_challenge(void)
{
    kit_start(&k);
    k.worker.shard.config.nonce_features = STUN_FEATURE_PASSWORD_ALGORITHMS;
    memset(k.listener->realm, 'r', REALM_MAX - 1);
    k.listener->realm_len = REALM_MAX - 1;
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {2};
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_ALLOCATE, txid);
    stun_put_fingerprint(&b);
    kit_from_client(&k, buf, stun_build_end(&b));
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 20 + 8 + 4 + 128 + 4 + 40 + 12 + 8);
    kit_stop(&k);
}

/* A signed request of the client at 11.0.0.n, whose nonce is good there. */
static void ask_as(uint8_t n)
{
    char nonce[128];
    store32(k.client.ip + 12, 0x0b000000u + n);
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(took(&sent));
    kit_from_client(&k, buf, signed_request(buf, nonce, nonce_of(&sent, nonce)));
}

static void x108_without_credit_requests_are_dropped(void)
{
    struct ctl_frame f;
    kit_start(&k);
    for (unsigned i = 0; i < KIT_CREDITS / 16 + 1; i++)
        ask_as(1);
    CHECK_EQ(kit_count(&k, CTR_requests), KIT_CREDITS / 16);
    CHECK_EQ(kit_count(&k, CTR_erlang_behind), 1);
    while (kit_frame(&k, &f))
        ;
    /* An answer that never came gives its credit back in the end. */
    kit_turn(&k, 11 * 1000);
    ask_as(1);
    CHECK_EQ(kit_count(&k, CTR_requests), KIT_CREDITS / 16 + 1);
    kit_stop(&k);
}

/* One source, and all strangers together, leave credits to those who have a session. */
static void x108_credits_are_shared_by_source_and_kept_for_sessions(void)
{
    kit_start(&k);
    struct addr owner = k.client;
    kit_allocate(&k, ID, true, false, 600000);
    for (unsigned n = 1; n <= 40; n++)
        for (unsigned i = 0; i < 10; i++)
            ask_as((uint8_t)n);
    CHECK_EQ(kit_count(&k, CTR_requests), KIT_CREDITS / 4 * 3);
    uint64_t before = kit_count(&k, CTR_requests);
    char nonce[128];
    k.client = owner;
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(took(&sent));
    size_t len = signed_request(buf, nonce, nonce_of(&sent, nonce));
    for (unsigned i = 0; i < KIT_CREDITS; i++)
        kit_from_client(&k, buf, len);
    CHECK_EQ(kit_count(&k, CTR_requests) - before, KIT_CREDITS / 4);
    kit_stop(&k);
}

/* Wrong credentials are paid for by their source, and by nobody else. */
static void x35_failures_cut_off_their_source_alone(void)
{
    struct ctl_frame f;
    kit_start(&k);
    ratelimit_init(&k.limits.failures, 1, 3);
    for (int i = 0; i < 3; i++) {
        ask_as(1);
        CHECK(kit_frame(&k, &f));
        CHECK_EQ(f.code, CTL_REQUEST);
        struct ctl_frame answer = {.code = CTL_ANSWER,
                                   .u.answer = {.flow = f.u.request.flow, .failed = 1}};
        kit_command(&k, &answer);
    }
    ask_as(1);
    CHECK(kit_frame(&k, &f)); /* Erlang hears of that, and not of the next one */
    CHECK_EQ(f.code, CTL_OVER_RATE);
    CHECK_EQ(f.u.over_rate.failures, 1);
    CHECK_EQ(f.u.over_rate.dropped, 1);
    ask_as(1);
    CHECK(!kit_frame(&k, &f));
    CHECK_EQ(kit_count(&k, CTR_over_rate), 2);
    ask_as(2);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_REQUEST);
    kit_turn(&k, 2000);
    ask_as(1); /* with time it may try again */
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_REQUEST);
    kit_stop(&k);
}

static void s25_integrity_without_its_companions_earns_400(void)
{
    kit_start(&k);
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {4};
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_REFRESH, txid);
    stun_put_bytes(&b, A_username, "u", 1);
    stun_put_bytes(&b, A_realm, "example.org", 11);
    stun_put_integrity(&b, "key", 3);
    kit_from_client(&k, buf, stun_build_end(&b));
    CHECK(took(&sent));
    CHECK_EQ(error_code(&sent), 400);
    char nonce[128];
    CHECK_EQ(nonce_of(&sent, nonce), 0);
    kit_stop(&k);
}

static void x24_x63_noise_and_wrong_classes_are_dropped(void)
{
    static const struct {
        uint16_t type;
        enum counter reason;
    } rows[] = {
        {0x0002, CTR_unknown_method}, {0x0013, CTR_unknown_method}, /* Allocate indication */
        {0x0006, CTR_unknown_method},                               /* Send request */
        {0x0017, CTR_unknown_method},                               /* Data from a client */
        {0x0101, CTR_response_class}, {0x0111, CTR_response_class}, {0x0113, CTR_response_class},
    };
    kit_start(&k);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t before = kit_count(&k, rows[i].reason);
        bare_request(buf, sizeof(buf), STUN_BINDING);
        store16(buf, rows[i].type);
        kit_from_client(&k, buf, 20);
        CHECK(nothing_sent());
        CHECK_EQ(kit_count(&k, rows[i].reason), before + 1);
    }
    kit_from_client(&k, "\x80garbage", 8);
    CHECK_EQ(kit_count(&k, CTR_not_stun), 1);
    kit_from_client(&k, buf, 0);
    kit_from_client(&k, buf, 19);
    CHECK_EQ(kit_count(&k, CTR_too_short), 2);
    CHECK(nothing_sent());
    kit_stop(&k);
}

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

/* X78, K16, K17: everything ends on time by itself, while packets flow and Erlang is silent. */
static void x78_deadlines_hold_without_erlang(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 900000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    int passed = 0;
    size_t len = channel_data(buf, 0x4001, "x");
    for (int second = 1; second <= 310; second++) {
        kit_turn(&k, 1000);
        kit_from_client(&k, buf, len);
        kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
        while (took(&sent))
            passed++;
    }
    CHECK_EQ(passed, 2 * 299); /* over at 300 s to the second, data or no data */
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent));
    CHECK_EQ(load16(sent.data), 0x4001); /* the channel is still bound */
    kit_turn(&k, 290 * 1000);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent));
    CHECK_EQ(load16(sent.data), 0x0017); /* K17: channel over at 600 s, permission not */
    kit_from_client(&k, buf, len);
    CHECK(nothing_sent());

    struct ctl_frame f;
    CHECK(!kit_frame(&k, &f));
    kit_turn(&k, 299 * 1000);
    CHECK(session_by_id(&k.worker.shard.sessions, ID));
    kit_turn(&k, 1250); /* 900 s and a sweep */
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(f.u.session_gone.session, ID);
    CHECK_EQ(f.u.session_gone.reason, GONE_EXPIRED);
    CHECK_EQ(fake_io_sockets(k.io), 1); /* the listener's alone */
    CHECK_EQ(ports_free(&k.ports), 2 * 9000);
    CHECK_EQ(k.worker.shard.sessions.permission_slab.live, 0);
    CHECK_EQ(k.worker.shard.sessions.channel_slab.live, 0);
    kit_stop(&k);
}

static void t33_refresh_moves_the_deadline_both_ways(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct ctl_frame refresh = {.code = CTL_ALLOC_REFRESH,
                                .u.alloc_refresh = {.session = ID, .lifetime_ms = 5000}};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 5500);
    kit_turn(&k, 0);
    struct ctl_frame f;
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(kit_ask(&k, &refresh), CTL_GONE);

    kit_allocate(&k, ID + 1, true, false, 5000);
    refresh.u.alloc_refresh = (struct ctl_alloc_refresh){.session = ID + 1, .lifetime_ms = 600000};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 599 * 1000);
    CHECK(session_by_id(&k.worker.shard.sessions, ID + 1));
    kit_stop(&k);
}

static void x81_nothing_of_the_old_session_is_left_for_the_new(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    struct ctl_frame f;
    kit_command(&k, &del);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "late"));
    CHECK(nothing_sent());
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(f.u.session_gone.reason, GONE_DELETED);
    struct session *s = kit_allocate(&k, ID + 1, true, false, 600000);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(nothing_sent());
    kit_stop(&k);
}

/* What was relayed is told of one session in full, and of all of them in rows. */
static void a_session_tells_what_it_relayed_and_dropped(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "four"));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "seven b", 7);
    kit_from_client(&k, buf, channel_data(buf, 0x4002, "no channel"));
    struct addr stranger = k.peer;
    stranger.ip[0] ^= 1;
    kit_from_peer(&k, &s->relayed[0], &stranger, "z", 1);
    kit_from_peer(&k, &s->relayed[0], &stranger, "z", 1);
    struct ctl_frame info = {.code = CTL_SESSION_INFO, .u.session_info = {.session = ID}};
    struct ctl_frame f;
    kit_command(&k, &info);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_stats.client_packets, 1);
    CHECK_EQ(f.u.session_stats.client_bytes, 4);
    CHECK_EQ(f.u.session_stats.peer_bytes, 7);
    CHECK_EQ(f.u.session_stats.dropped, 3);
    CHECK_EQ(f.u.session_stats.no_channel, 1);
    CHECK_EQ(f.u.session_stats.no_permission, 2);
    CHECK_EQ(f.u.session_stats.over_bandwidth, 0);

    struct ctl_frame list = {.code = CTL_SESSIONS, .u.sessions = {.from = 0}};
    kit_command(&k, &list);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_ROWS);
    CHECK_EQ(f.u.session_rows.next, 0);
    CHECK_EQ(f.u.session_rows.rows.len, 48);
    const uint64_t row[] = {ID, 1, 4, 1, 7, 3};
    for (int i = 0; i < 6; i++)
        CHECK_EQ(load64(f.u.session_rows.rows.data + i * 8), row[i]);

    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    kit_command(&k, &del);
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_gone.no_permission, 2);
    kit_command(&k, &list);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_rows.rows.len, 0);
    kit_stop(&k);
}

static void t15_a_taken_tuple_is_a_conflict(void)
{
    kit_start(&k);
    CHECK(kit_allocate(&k, ID, true, false, 600000));
    CHECK(!kit_allocate(&k, ID + 1, true, false, 600000));
    CHECK_EQ(fake_io_sockets(k.io), 2);
    k.client.port++;
    CHECK(kit_allocate(&k, ID + 1, true, false, 600000));
    kit_stop(&k);
}

static void t36_permit_is_all_or_none(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr bad = k.peer, v6;
    CHECK(addr_parse(&bad, "10.0.0.1", 1) && addr_parse(&v6, "2001:db8::1", 1));
    kit_policy(&k, &bad, 96 + 8);
    uint8_t list[128];
    struct wbytes w = wbytes_of(list, sizeof(list));
    ctl_put_addr(&w, &k.peer);
    ctl_put_addr(&w, &bad);
    struct ctl_frame f = {.code = CTL_PERMIT,
                          .u.permit = {.session = ID,
                                       .lifetime_ms = 300000,
                                       .peers = ctl_bytes_of(list, wbytes_len(&w))}};
    struct ctl_frame reply;
    kit_command(&k, &f);
    CHECK(kit_frame(&k, &reply));
    CHECK_EQ(reply.u.reply.status, CTL_FORBIDDEN);
    CHECK_EQ(reply.u.reply.detail.len, 10);
    CHECK_MEM(reply.u.reply.detail.data, "10.0.0.0/8", 10);
    CHECK_EQ(k.worker.shard.sessions.permission_slab.live, 0);
    CHECK_EQ(kit_permit(&k, ID, &v6, 300000), CTL_FAMILY);
    kit_stop(&k);
}

static void x16_a_new_policy_ends_live_permissions(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    kit_policy(&k, &k.peer, 128);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(nothing_sent());
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_FORBIDDEN);
    kit_stop(&k);
}

/* X09, X10 and trap 6: own addresses only where another allocation relays. */
static void x09_x10_own_addresses(void)
{
    kit_start(&k);
    struct session *a = kit_allocate(&k, ID, true, false, 600000);
    struct addr a_addr = relayed_local(&a->relayed[0]);
    k.client.port++;
    struct session *b = kit_allocate(&k, ID + 1, true, false, 600000);
    struct addr b_addr = relayed_local(&b->relayed[0]);

    CHECK_EQ(kit_permit(&k, ID + 1, &a_addr, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID + 1, 0x4001, &b_addr, 600000, 300000), CTL_FORBIDDEN); /* itself */
    CHECK_EQ(kit_channel(&k, ID + 1, 0x4001, &k.server, 600000, 300000), CTL_FORBIDDEN);
    CHECK_EQ(kit_channel(&k, ID + 1, 0x4001, &a_addr, 600000, 300000), CTL_OK);
    struct addr interface;
    CHECK(addr_parse(&interface, "203.0.113.5", 22));
    CHECK_EQ(kit_permit(&k, ID + 1, &interface, 300000), CTL_FORBIDDEN);

    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.server, "STUN to itself"));
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &b_addr, "loop"));
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_forbidden_peer), 2);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &a_addr, "to the other"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &a_addr));
    kit_stop(&k);
}

static void t22_two_families_in_one_allocation(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, true, 600000);
    struct addr v6;
    CHECK(addr_parse(&v6, "2001:db8::7", 9));
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &v6, 600000, 300000), CTL_OK);
    kit_from_client(&k, buf, channel_data(buf, 0x4002, "six"));
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[1].io);
    CHECK(addr_equal(&sent.to, &v6));
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "four"));
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[0].io);
    /* Data indications of IPv6 peers are longer; the room before the payload must do. */
    v6.port++;
    kit_from_peer(&k, &s->relayed[1], &v6, "hello", 5);
    CHECK(took(&sent));
    struct stun_view v;
    CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
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

static void t34_one_family_ends_without_the_other(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, true, 600000);
    struct addr v6 = {0};
    CHECK(addr_parse(&v6, "2001:db8::7", 9));
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &v6, 600000, 300000), CTL_OK);
    struct ctl_frame refresh = {.code = CTL_ALLOC_REFRESH,
                                .u.alloc_refresh = {.session = ID, .family = 6, .lifetime_ms = 0}};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 0);
    struct ctl_frame f;
    CHECK(!kit_frame(&k, &f));
    CHECK_EQ(ports_free(&k.ports), 2 * 9000 - 1); /* the IPv6 port is back */
    kit_from_client(&k, buf, channel_data(buf, 0x4002, "six"));
    CHECK(nothing_sent());
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "four"));
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[0].io);
    CHECK_EQ(kit_permit(&k, ID, &v6, 300000), CTL_FAMILY);
    CHECK_EQ(kit_ask(&k, &refresh), CTL_FAMILY);
    /* The last one takes the allocation along. */
    refresh.u.alloc_refresh.family = 4;
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(f.u.session_gone.reason, GONE_DELETED);

    /* Deadlines of their own as well. */
    s = kit_allocate(&k, ID + 1, true, true, 600000);
    refresh.u.alloc_refresh =
        (struct ctl_alloc_refresh){.session = ID + 1, .family = 4, .lifetime_ms = 900000};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 601 * 1000);
    kit_turn(&k, 0);
    CHECK(session_by_id(&k.worker.shard.sessions, ID + 1));
    CHECK(s->relayed[0].open && !s->relayed[1].open);
    kit_turn(&k, 300 * 1000);
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_gone.reason, GONE_EXPIRED);
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
    size_t burst = 2 * 65536, up = through(s, true);
    CHECK(up >= 475000 && up <= 525000 + burst);
    up = through(s, true); /* the burst is spent */
    CHECK(up >= 475000 && up <= 525000);
    size_t down = through(s, false); /* the other direction is by itself */
    CHECK(down >= 475000 && down <= 525000 + burst);
    s->rate = bandwidth(0);
    s->user = &k.users[1]; /* shared by the user's allocations */
    shared_bucket_set(s->user, bandwidth(100000));
    through(s, true);
    up = through(s, true);
    CHECK(up >= 950000 && up <= 1050000);
    s->user = NULL;
    shared_bucket_set(&k.limits.total, bandwidth(100000));
    through(s, true);
    up = through(s, true);
    CHECK(up >= 950000 && up <= 1050000);
    CHECK(kit_count(&k, CTR_over_bandwidth) > 0);
    kit_stop(&k);
}

static bool told_of_move(void)
{
    struct ctl_frame f;
    return kit_frame(&k, &f) && f.code == CTL_SESSION_MOVED && f.u.session_moved.session == ID &&
           addr_equal(&f.u.session_moved.client, &k.client);
}

/* M5: the old 5-tuple serves both ways until data comes from the new one. */
static void m5_a_client_moves_when_it_speaks_from_its_new_address(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    struct addr old = k.client;
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    k.client.port = 6000;
    struct addr new = k.client;
    CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "a", 1);
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &old));
    k.client = old;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "old"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));

    k.client = new;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "new"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));
    CHECK_EQ(kit_count(&k, CTR_moves), 1);
    CHECK(told_of_move());
    kit_from_peer(&k, &s->relayed[0], &k.peer, "b", 1);
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &new));
    k.client = old;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "late"));
    CHECK(nothing_sent());
    CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 0);
    kit_stop(&k);
}

static void m5_a_client_that_lands_at_another_worker_is_carried(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    k.client.port = 6000;
    CHECK_EQ(kit_move(&k, ID, 1), CTL_OK);
    CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 0); /* worker 1 has it */

    /* What worker 1 would carry over. */
    size_t len = send_indication(buf, sizeof(buf), &k.peer, "hello");
    struct mail_carry carry = {
        .session = ID, .flow = {1, CTL_TRANSPORT_UDP, k.client, k.server}, .len = (uint32_t)len};
    move_carried(&k.worker.shard, &carry, buf);
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));
    CHECK_EQ(sent.len, 5);
    CHECK_EQ(kit_count(&k, CTR_moves), 1);
    CHECK(told_of_move());
    CHECK(addr_equal(&s->flow.client, &k.client));
    kit_stop(&k);

    /* And how worker 1 does it. */
    kit_start(&k);
    struct mail_roam roam = {
        .add = true, .session = 7, .home = 1, .flow = {1, CTL_TRANSPORT_UDP, k.client, k.server}};
    move_roamer(&k.worker.shard, &roam);
    kit_from_client(&k, buf, len);
    CHECK(nothing_sent());
    uint32_t mail_len;
    struct mailbox *letters = &k.neighbour.letters.box;
    const uint8_t *record = mailbox_peek(letters, &mail_len);
    CHECK(record && record[0] == MAIL_CARRY);
    memcpy(&carry, record + 1, sizeof(carry));
    CHECK_EQ(carry.session, 7);
    CHECK_EQ(carry.len, len);
    CHECK_MEM(record + 1 + sizeof(carry), buf, len);
    mailbox_consume(letters);
    roam.add = false;
    move_roamer(&k.worker.shard, &roam);
    kit_from_client(&k, buf, len);
    CHECK_EQ(kit_count(&k, CTR_no_allocation), 1);
    kit_stop(&k);
}

/* Erlang must hear of every move: one that it cannot be told of waits for the next datagram. */
static void m5_no_move_without_a_word(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    struct addr old = k.client;
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    k.client.port = 6000;
    CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
    enum { FILLER = 512 };
    while (mailbox_room(&k.worker.shard.out) > FILLER)
        mailbox_commit(&k.worker.shard.out, mailbox_reserve(&k.worker.shard.out, FILLER), FILLER);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.peer, "hello"));
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_carry_full), 1);
    CHECK(addr_equal(&s->flow.client, &old));
    uint32_t len;
    while (mailbox_peek(&k.worker.shard.out, &len))
        mailbox_consume(&k.worker.shard.out);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.peer, "hello"));
    CHECK(took(&sent));
    CHECK(told_of_move());
    kit_stop(&k);
}

static void x104_a_later_move_replaces_the_pending_one(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    for (uint16_t port = 6000; port < 6020; port++) {
        k.client.port = port;
        CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
        CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 1);
    }
    k.client.port = 6000;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    CHECK(nothing_sent());
    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    kit_command(&k, &del);
    kit_turn(&k, 0); /* the socket is closed, the session goes */
    CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 0);
    kit_stop(&k);
}

static size_t discovery_request(uint64_t change, uint64_t port, size_t padding)
{
    static const uint8_t zeros[1000];
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {5};
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
    if (change)
        stun_put_uint(&b, A_change_request, change);
    if (port)
        stun_put_uint(&b, A_response_port, port);
    if (padding)
        stun_put_bytes(&b, A_padding, zeros, padding);
    return stun_build_end(&b);
}

static void b3_answers_come_from_where_they_were_asked_to(void)
{
    kit_start(&k);
    struct addr all[4] = {k.server, k.server, k.server, k.server}, origin, other;
    struct listener *l[4];
    for (int i = 0; i < 4; i++) { /* bit 0: other port, bit 1: other IP */
        all[i].ip[15] = i & 2 ? 9 : 1;
        all[i].port = i & 1 ? 4479 : 4478;
    }
    for (int i = 0; i < 4; i++)
        l[i] = kit_listen(&k, 10u + (unsigned)i, &all[i], &all[3 - i]);
    static const uint64_t flags[4] = {0, 2, 4, 6};
    struct stun_view v;
    for (int i = 0; i < 4; i++) {
        fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(flags[i], 0, 0));
        kit_turn(&k, 0);
        CHECK(took(&sent));
        CHECK(sent.socket == &l[i]->io);
        CHECK(addr_equal(&sent.to, &k.client));
        CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
        CHECK(stun_has(&v, A_mapped_address) && stun_has(&v, A_xor_mapped_address)); /* B2 */
        CHECK_EQ(stun_get_addr(&v, A_response_origin, &origin), STUN_OK);            /* B4 */
        CHECK(addr_equal(&origin, &all[i]));
        CHECK_EQ(stun_get_addr(&v, A_other_address, &other), STUN_OK);
        CHECK(addr_equal(&other, &all[3]));
    }
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(0, 2000, 0));
    kit_turn(&k, 0);
    CHECK(took(&sent)); /* B6 */
    CHECK_EQ(sent.to.port, 2000);
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(0, 2000, 8));
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(0, 80, 0)); /* X26 */
    kit_turn(&k, 0);
    CHECK(took(&sent)); /* B5 */
    CHECK_EQ(error_code(&sent), 400);
    CHECK(took(&sent));
    CHECK_EQ(error_code(&sent), 400);
    size_t asked = discovery_request(0, 0, 600);
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, asked);
    kit_turn(&k, 0);
    CHECK(took(&sent));
    CHECK(sent.len > 600 && sent.len <= asked + 64);
    kit_stop(&k);
}

static void x26_discovery_is_unknown_where_it_is_off(void)
{
    static const enum stun_attr_id ids[] = {A_change_request, A_response_port, A_padding};
    kit_start(&k);
    for (int i = 0; i < 3; i++) {
        kit_from_client(&k, buf,
                        discovery_request(i == 0 ? 2 : 0, i == 1 ? 2000 : 0, i == 2 ? 8 : 0));
        CHECK(took(&sent));
        CHECK_EQ(error_code(&sent), 420);
        struct stun_view v;
        CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
        const uint8_t *types;
        types = v.data + v.at[A_unknown_attributes];
        CHECK_EQ(load16(types + 2), 2);
        CHECK_EQ(load16(types + 4), stun_attr_table[ids[i]].code);
    }
    kit_stop(&k);
}

static void s36_rfc_3489_clients_where_they_are_allowed(void)
{
    kit_start(&k);
    bare_request(buf, sizeof(buf), STUN_BINDING);
    store32(buf + 4, 0x01020304);
    kit_from_client(&k, buf, 20);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 32);
    CHECK_EQ(load16(sent.data), 0x0101);
    CHECK_MEM(sent.data + 4, buf + 4, 16);
    CHECK_EQ(load16(sent.data + 20), 0x0001);
    CHECK_EQ(load16(sent.data + 26), k.client.port);
    CHECK_MEM(sent.data + 28, addr_v4(&k.client), 4);
    k.worker.shard.config.rfc3489 = false;
    kit_from_client(&k, buf, 20);
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_bad_cookie), 1);
    kit_stop(&k);
}

static void x08_broadcast_addresses_of_this_host_are_denied(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr peer;
    CHECK(addr_parse(&peer, "203.0.113.255", 9));
    CHECK_EQ(kit_permit(&k, ID, &peer, 300000), CTL_FORBIDDEN);
    kit_stop(&k);
}

static void x11_an_allocate_out_of_a_relayed_address_is_dropped(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    k.client = relayed_local(&s->relayed[0]);
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_relayed_source), 1);
    kit_stop(&k);
}

static void full_tables_say_so(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr peer = k.peer;
    uint16_t status = CTL_OK;
    int installed = 0;
    for (int i = 0; i < 200 && status == CTL_OK; i++) {
        store16(peer.ip + 14, (uint16_t)(i + 1));
        status = kit_permit(&k, ID, &peer, 300000);
        installed += status == CTL_OK;
    }
    CHECK_EQ(status, CTL_FULL);
    CHECK_EQ(installed, 128);
    store16(peer.ip + 14, 1); /* what is there is renewed all the same */
    CHECK_EQ(kit_permit(&k, ID, &peer, 300000), CTL_OK);
    peer.port = 99;
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &peer, 600000, 300000), CTL_OK);
    kit_turn(&k, 301 * 1000);
    CHECK_EQ(k.worker.shard.sessions.permission_slab.live, 0);
    CHECK_EQ(kit_permit(&k, ID, &peer, 300000), CTL_OK);
    kit_stop(&k);
}

static void an_unlistened_listener_serves_its_sessions_to_the_end(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    struct ctl_frame f = {.code = CTL_UNLISTEN, .u.unlisten = {.listener = 1}};
    kit_command(&k, &f);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent));
    k.client.port++;
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_BINDING));
    CHECK(nothing_sent());
    CHECK(!kit_listener_idle(&k, 1));
    kit_turn(&k, 601 * 1000);
    kit_turn(&k, 0);
    kit_turn(&k, 0);
    CHECK(kit_listener_idle(&k, 1));
    CHECK_EQ(fake_io_sockets(k.io), 1); /* another worker may need the group */
    kit_listener_over(&k, 1);
    kit_turn(&k, 0);
    CHECK_EQ(fake_io_sockets(k.io), 0);
    kit_stop(&k);
}

static void whoever_waits_for_an_answer_keeps_the_listener(void)
{
    kit_start(&k);
    uint64_t flow = asked();
    struct ctl_frame f = {.code = CTL_UNLISTEN, .u.unlisten = {.listener = 1}};
    kit_command(&k, &f);
    kit_turn(&k, 0);
    CHECK(!kit_listener_idle(&k, 1));
    f = (struct ctl_frame){
        .code = CTL_ANSWER,
        .u.answer = {.flow = flow, .packet = ctl_bytes_of((const uint8_t *)"done", 4)}};
    kit_command(&k, &f);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 4);
    CHECK(kit_listener_idle(&k, 1));
    kit_stop(&k);
}

/* Erlang has lost it: the client gave up long ago. */
static void a_request_that_is_lost_keeps_no_listener(void)
{
    kit_start(&k);
    asked();
    struct ctl_frame f = {.code = CTL_UNLISTEN, .u.unlisten = {.listener = 1}};
    kit_command(&k, &f);
    kit_turn(&k, 9000);
    CHECK(!kit_listener_idle(&k, 1));
    kit_turn(&k, 2000);
    CHECK(kit_listener_idle(&k, 1));
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

/* With nothing to do too, so that it can be told from one that stands still. */
static void an_idle_worker_sleeps_a_second_at_most(void)
{
    kit_start(&k);
    CHECK(worker_sleep_ns(&k.worker) <= NS_PER_S * CLOCK_SPEED);
    kit_allocate(&k, ID, true, false, 600000);
    kit_turn(&k, 0);
    CHECK(worker_sleep_ns(&k.worker) <= NS_PER_S * CLOCK_SPEED);
    kit_stop(&k);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(an_idle_worker_sleeps_a_second_at_most);
    RUN(x20_binding_is_answered_small);
    RUN(s22_challenge_then_request_reaches_erlang);
    RUN(an_answer_leaves_when_its_command_is_done);
    RUN(what_nobody_waits_for_is_told_in_no_haste);
    RUN(x30_x32_nonces_of_others_and_of_yesterday_earn_438);
    RUN(s19_s24_challenges_offer_what_the_nonce_says);
    RUN(x21_the_longest_realm_fits_a_challenge);
    RUN(x108_without_credit_requests_are_dropped);
    RUN(x108_credits_are_shared_by_source_and_kept_for_sessions);
    RUN(x35_failures_cut_off_their_source_alone);
    RUN(s25_integrity_without_its_companions_earns_400);
    RUN(x24_x63_noise_and_wrong_classes_are_dropped);
    RUN(t37_send_and_data);
    RUN(t42_t43_channel_data);
    RUN(segments_without_room_are_relayed_alike);
    RUN(t40_numbers_above_4fff_are_no_channels);
    RUN(x79_channel_conflicts);
    RUN(x78_deadlines_hold_without_erlang);
    RUN(t33_refresh_moves_the_deadline_both_ways);
    RUN(x81_nothing_of_the_old_session_is_left_for_the_new);
    RUN(a_session_tells_what_it_relayed_and_dropped);
    RUN(t15_a_taken_tuple_is_a_conflict);
    RUN(t36_permit_is_all_or_none);
    RUN(x16_a_new_policy_ends_live_permissions);
    RUN(x09_x10_own_addresses);
    RUN(t22_two_families_in_one_allocation);
    RUN(t39_icmp_is_told_for_permitted_peers_only);
    RUN(x80_dont_fragment_is_honoured_for_send);
    RUN(t44_dont_fragment_is_ignored_towards_ipv6);
    RUN(t34_one_family_ends_without_the_other);
    RUN(x22_strangers_get_their_share_and_no_more);
    RUN(x22_a_flood_of_few_sources_leaves_others_their_share);
    RUN(x82_strangers_leave_nothing_behind);
    RUN(x83_bandwidth_is_kept_within_five_per_cent);
    RUN(m5_a_client_moves_when_it_speaks_from_its_new_address);
    RUN(m5_a_client_that_lands_at_another_worker_is_carried);
    RUN(m5_no_move_without_a_word);
    RUN(x104_a_later_move_replaces_the_pending_one);
    RUN(b3_answers_come_from_where_they_were_asked_to);
    RUN(x26_discovery_is_unknown_where_it_is_off);
    RUN(s36_rfc_3489_clients_where_they_are_allowed);
    RUN(x08_broadcast_addresses_of_this_host_are_denied);
    RUN(x11_an_allocate_out_of_a_relayed_address_is_dropped);
    RUN(full_tables_say_so);
    RUN(an_unlistened_listener_serves_its_sessions_to_the_end);
    RUN(whoever_waits_for_an_answer_keeps_the_listener);
    RUN(a_request_that_is_lost_keeps_no_listener);
    RUN(link_local_clients_are_sent_to_on_their_link);
    return test_end("worker");
}
