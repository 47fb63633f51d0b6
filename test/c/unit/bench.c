/*
 * What the load generator (bench/) rests its figures and its credentials on: the histogram, and the
 * client's side of a challenge.
 */
#include "../../../bench/histogram.h"
#include "../../../bench/turn.c"
#include "test.h"

static struct histogram h;

static void histogram_keeps_small_values_apart(void)
{
    histogram_clear(&h);
    CHECK_EQ(histogram_percentile(&h, 0.5), 0);
    for (unsigned v = 1; v <= 200; v++)
        histogram_add(&h, v);
    CHECK_EQ(h.total, 200);
    CHECK_EQ(h.max, 200);
    CHECK_EQ(histogram_percentile(&h, 0), 1);
    CHECK_EQ(histogram_percentile(&h, 0.5), 100);
    CHECK_EQ(histogram_percentile(&h, 0.99), 198);
    CHECK_EQ(histogram_percentile(&h, 1), 200);
}

static void histogram_buckets_follow_one_another(void)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i + 1 < HISTOGRAM_SIZE; i++) {
        uint64_t upper = histogram_upper(i);
        wrong += histogram_index(upper) != i;
        wrong += histogram_index(upper + 1) != i + 1;
    }
    CHECK_EQ(wrong, 0);
}

static void histogram_is_never_more_than_a_hundredth_off(void)
{
    unsigned wrong = 0;
    for (uint64_t v = 1; v >> (HISTOGRAM_BITS - 1) == 0; v += 1 + v / 37) {
        uint64_t upper = histogram_upper(histogram_index(v));
        wrong += upper < v || upper - v > v / 100;
    }
    CHECK_EQ(wrong, 0);
}

static void histogram_takes_what_is_too_large_as_the_largest(void)
{
    histogram_clear(&h);
    histogram_add(&h, UINT64_MAX);
    CHECK_EQ(h.max, UINT64_MAX);
    CHECK_EQ(h.count[HISTOGRAM_SIZE - 1], 1);
    histogram_add(&h, 5);
    CHECK_EQ(histogram_percentile(&h, 0.5), 5);
}

/* ------------------------------------------------------------------------------ challenges */

static const enum turn_step to_allocate[] = {STEP_ALLOCATE, STEPS};
static struct turn_login login;
static struct turn_client client;
static uint8_t answer[512];
static const uint8_t relayed_ip[4] = {192, 0, 2, 15};

/* The request under way, as a server reads it. */
static struct stun_view asked(void)
{
    struct stun_view v;
    client.waiting = true;
    CHECK_EQ(turn_request(&login, &client, NULL, 0), TURN_WELL);
    CHECK_EQ(stun_parse(&v, client.request, client.request_len), STUN_OK);
    return v;
}

static void begin(void)
{
    login = (struct turn_login){.user = "u", .password = "p"};
    client = (struct turn_client){.index = 7, .plan = to_allocate};
}

/* Ends the answer and gives it to the client. */
static int given(struct stun_builder *b)
{
    struct stun_view v;
    size_t len = stun_build_end(b);
    CHECK(len > 0);
    CHECK_EQ(stun_parse(&v, answer, len), STUN_OK);
    CHECK(turn_is_answer(&client, &v));
    return turn_answer(&login, &client, &v);
}

static int refuse(const struct stun_view *request, uint16_t code, const char *nonce)
{
    struct stun_builder b;
    stun_build_response(&b, answer, sizeof(answer), STUN_ERROR, request);
    stun_put_error(&b, code, NULL);
    stun_put_bytes(&b, A_realm, "r", 1);
    stun_put_bytes(&b, A_nonce, nonce, strlen(nonce));
    return given(&b);
}

static int grant(const struct stun_view *request, const void *key)
{
    struct stun_builder b;
    struct addr relayed = addr_from_v4(relayed_ip, 50000);
    stun_build_response(&b, answer, sizeof(answer), STUN_SUCCESS, request);
    stun_put_addr(&b, A_xor_relayed_address, &relayed);
    stun_put_uint(&b, A_lifetime, 600);
    if (key)
        stun_put_integrity(&b, key, STUN_KEY_MD5_LEN);
    return given(&b);
}

/* Is the request signed by u:r:p, with that nonce? */
static void check_signed(const struct stun_view *v, const char *nonce)
{
    uint8_t key[STUN_KEY_MD5_LEN];
    const uint8_t *value = NULL;
    size_t len = 0;
    bool match = false;
    stun_key_md5("u", 1, "r", 1, "p", 1, key);
    CHECK_EQ(stun_check_integrity(v, key, sizeof(key), &match), STUN_OK);
    CHECK(match);
    CHECK_EQ(stun_get_bytes(v, A_nonce, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, nonce, strlen(nonce));
}

static void client_signs_with_what_a_challenge_says(void)
{
    begin();
    struct stun_view v = asked();
    CHECK(!stun_has(&v, A_username) && !stun_has(&v, A_message_integrity));
    CHECK_EQ(refuse(&v, 401, "one"), TURN_AGAIN);
    v = asked();
    check_signed(&v, "one");
    CHECK_EQ(refuse(&v, 438, "two"), TURN_AGAIN);
    v = asked();
    check_signed(&v, "two");
    CHECK_EQ(grant(&v, login.key), TURN_WELL);
    CHECK(client.allocated);
    CHECK_EQ(client.lifetime_s, 600);
    CHECK_EQ(client.relayed.port, 50000);
}

static void client_does_not_ask_forever(void)
{
    begin();
    struct stun_view v = asked();
    CHECK_EQ(refuse(&v, 401, "one"), TURN_AGAIN);
    v = asked();
    CHECK_EQ(refuse(&v, 401, "one"), 401); /* signed and refused: wrong credentials */
    begin();
    int code = TURN_AGAIN, count = 0;
    for (; code == TURN_AGAIN && count < 10; count++) {
        v = asked();
        code = refuse(&v, count ? 438 : 401, "stale");
    }
    CHECK_EQ(code, 438);
}

static void client_believes_signed_answers_only(void)
{
    static const uint8_t other[STUN_KEY_MD5_LEN];
    begin();
    struct stun_view v = asked();
    CHECK_EQ(refuse(&v, 401, "one"), TURN_AGAIN);
    v = asked();
    CHECK_EQ(grant(&v, NULL), TURN_BAD_ANSWER);
    CHECK_EQ(grant(&v, other), TURN_BAD_ANSWER);
    CHECK(!client.allocated);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(histogram_keeps_small_values_apart);
    RUN(histogram_buckets_follow_one_another);
    RUN(histogram_is_never_more_than_a_hundredth_off);
    RUN(histogram_takes_what_is_too_large_as_the_largest);
    RUN(client_signs_with_what_a_challenge_says);
    RUN(client_does_not_ask_forever);
    RUN(client_believes_signed_answers_only);
    return test_end("bench");
}
