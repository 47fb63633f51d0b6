/*
 * What a worker answers, what it asks Erlang and what it drops, of what clients say; what Erlang
 * answers, and when it is told of things. Row numbers are those of the conformance (S) and threat
 * (X) tables.
 */
#include "worker_kit.h"

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

int main(void)
{
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
    RUN(s36_rfc_3489_clients_where_they_are_allowed);
    RUN(x11_an_allocate_out_of_a_relayed_address_is_dropped);
    return test_end("requests");
}
