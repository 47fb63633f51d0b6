/*
 * A new policy: what it forbids stops at once (threat X16), and no turn of a worker is as long as
 * all its permissions times all its rules.
 */
#include "relay_kit.h"
#include "test.h"

#define ID 42u

enum { PEERS = 128 };

static struct kit k;
static uint8_t rules[POLICY_RULES_MAX * POLICY_RULE_LEN];

static struct addr peer(unsigned i)
{
    struct addr a = k.peer;
    a.ip[15] = (uint8_t)(1 + i);
    return a;
}

/* So many rules that say nothing of the peers, then `verdict` on all of 198.51.100.128/25, and
 * allow. */
static void policy_of(unsigned others, uint8_t verdict)
{
    memset(rules, 0, sizeof(rules));
    for (unsigned i = 0; i < others + 2; i++)
        store16(rules + i * POLICY_RULE_LEN + 20, UINT16_MAX); /* of all ports */
    for (unsigned i = 0; i < others; i++) {
        uint8_t *r = rules + i * POLICY_RULE_LEN;
        r[1] = 128;
        r[2] = 0xfd;
        store16(r + 16, (uint16_t)i);
    }
    uint8_t *upper = rules + others * POLICY_RULE_LEN;
    struct addr prefix = peer(127);
    upper[0] = verdict;
    upper[1] = 96 + 25;
    memcpy(upper + 2, prefix.ip, 16);
    upper[POLICY_RULE_LEN] = 1; /* allow ::/0 */
    kit_rules(&k, rules, (others + 2) * POLICY_RULE_LEN);
}

static struct session *with_permissions(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    for (unsigned i = 0; i < PEERS; i++) {
        struct addr p = peer(63 + i); /* half of them above .128 */
        CHECK_EQ(kit_permit(&k, ID, &p, 300000), CTL_OK);
    }
    return s;
}

static uint32_t live(void)
{
    return k.worker.shard.sessions.permission_slab.live;
}

static bool reached(struct session *s, unsigned i)
{
    struct fake_sent sent;
    struct addr from = peer(i);
    kit_from_peer(&k, &s->relayed[0], &from, "y", 1);
    return fake_io_take(k.io, &sent);
}

static void no_turn_judges_all_permissions_by_many_rules(void)
{
    with_permissions();
    policy_of(POLICY_RULES_MAX - 2, 0);
    CHECK(live() > PEERS / 2);
    CHECK_EQ(worker_sleep_ns(&k.worker), 0); /* the rest is not left for another day */
    unsigned turns = 1;
    for (; live() > PEERS / 2 && turns < 100; turns++)
        kit_turn(&k, 0);
    CHECK(turns >= 4);
    CHECK_EQ(live(), PEERS / 2);
    for (; worker_sleep_ns(&k.worker) == 0 && turns < 100; turns++)
        kit_turn(&k, 0);
    CHECK(turns < 100);
    kit_stop(&k);
}

static void few_rules_are_done_in_a_turn(void)
{
    with_permissions();
    policy_of(0, 0);
    CHECK_EQ(live(), PEERS / 2);
    CHECK(worker_sleep_ns(&k.worker) > 0);
    kit_stop(&k);
}

/* Whoever uses a permission does not wait for the sweep, on any of the ways there are. */
static void x16_what_is_forbidden_stops_before_it_is_swept(void)
{
    struct session *s = with_permissions();
    struct addr data = peer(190), icmp = peer(189), send = peer(188), channel = peer(187);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &channel, 600000, 0), CTL_OK);
    CHECK(reached(s, 190));
    policy_of(POLICY_RULES_MAX - 2, 0);
    CHECK(permission_exists(&k.worker.shard.sessions, s, &data));
    CHECK(!reached(s, 190));
    CHECK(!permission_exists(&k.worker.shard.sessions, s, &data));

    struct fake_sent sent;
    struct io_icmp unreachable = {.peer = icmp, .type = 3, .code = 3};
    CHECK(permission_exists(&k.worker.shard.sessions, s, &icmp));
    fake_io_icmp(k.io, &s->relayed[0].io, &unreachable);
    CHECK(!fake_io_take(k.io, &sent));

    uint8_t packet[64], txid[STUN_TXID_LEN] = {1};
    struct stun_builder b;
    stun_build_start(&b, packet, sizeof(packet), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, &send);
    stun_put_bytes(&b, A_data, "x", 1);
    CHECK(permission_exists(&k.worker.shard.sessions, s, &send));
    kit_from_client(&k, packet, stun_build_end(&b));
    CHECK(!fake_io_take(k.io, &sent));

    memcpy(packet + 4, "x", 1);
    channel_put_header(packet + 4, 0x4001, 1);
    CHECK(permission_exists(&k.worker.shard.sessions, s, &channel));
    kit_from_client(&k, packet, 5);
    CHECK(!fake_io_take(k.io, &sent));
    CHECK_EQ(kit_count(&k, CTR_no_permission), 4);
    CHECK(reached(s, 64));
    kit_stop(&k);
}

/* Listeners, relay addresses and interfaces bring a policy each: they may follow each other faster
 * than one sweep takes. */
static void policies_in_a_row_do_not_keep_the_sweep_from_its_end(void)
{
    with_permissions();
    for (unsigned i = 0; i < 20; i++)
        policy_of(POLICY_RULES_MAX - 2, 0);
    CHECK_EQ(live(), PEERS / 2);
    kit_stop(&k);
}

/* What one policy forbade is not given back by the next, what all allow stays. */
static void a_permission_that_is_allowed_again_was_never_gone(void)
{
    struct session *s = with_permissions();
    policy_of(POLICY_RULES_MAX - 2, 0);
    policy_of(POLICY_RULES_MAX - 2, 1);
    CHECK(reached(s, 190)); /* not swept in between, and allowed now */
    CHECK(reached(s, 64));
    kit_stop(&k);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(no_turn_judges_all_permissions_by_many_rules);
    RUN(few_rules_are_done_in_a_turn);
    RUN(x16_what_is_forbidden_stops_before_it_is_swept);
    RUN(policies_in_a_row_do_not_keep_the_sweep_from_its_end);
    RUN(a_permission_that_is_allowed_again_was_never_gone);
    return test_end("judge");
}
