/*
 * Peer rules on one canonical form (threats X02-X05, X08, X18), and the host's own addresses.
 */
#include "policy.h"

#include <unistd.h>

#include "ctl.h"
#include "test.h"

struct rule_text {
    int verdict;
    const char *ip;
    unsigned bits;               /* as written: IPv4 prefixes up to 32 */
    uint16_t min_port, max_port; /* 0 and 0: all */
};

struct own_text {
    enum host_kind kind;
    const char *ip;
    unsigned bits;
};

/* What this host is, for all cases: a relay address, another, a prefix, anycast, broadcast. */
static const struct own_text host_texts[] = {
    {HOST_LOCAL, "127.0.0.0", 8},       {HOST_LOCAL, "20.0.0.5", 32},
    {HOST_BROADCAST, "20.0.0.5", 32},   {HOST_LOCAL, "20.0.0.6", 32},
    {HOST_BROADCAST, "20.0.0.255", 32}, {HOST_LOCAL, "9.9.8.0", 24},
    {HOST_LOCAL, "2a00:1:2:3::5", 128}, {HOST_ANYCAST, "2a00:1:2:3::", 128},
};

static struct ports ports;
static struct port taken; /* of 20.0.0.5 as far as policy knows */

static uint8_t canonical_bits(const struct addr *a, unsigned bits)
{
    return (uint8_t)(bits + (a->family == ADDR_V4 ? 96 : 0));
}

static struct host *make_host(void)
{
    struct host_list l = {0};
    for (size_t i = 0; i < ARRAY_SIZE(host_texts); i++) {
        struct addr a = {0};
        CHECK(addr_parse(&a, host_texts[i].ip, 0));
        struct host_prefix p = {.family = a.family,
                                .bits = canonical_bits(&a, host_texts[i].bits),
                                .kind = (uint8_t)host_texts[i].kind};
        memcpy(p.ip, a.ip, 16);
        CHECK(host_list_add(&l, &p));
    }
    struct host *h = host_make(&l);
    CHECK(h);
    host_list_free(&l);
    return h;
}

static size_t encode(uint8_t *out, const struct rule_text *rules, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t *r = out + i * POLICY_RULE_LEN;
        struct addr a = {0};
        CHECK(addr_parse(&a, rules[i].ip, 0));
        r[0] = (uint8_t)rules[i].verdict;
        r[1] = canonical_bits(&a, rules[i].bits);
        memcpy(r + 2, a.ip, 16);
        store16(r + 18, rules[i].min_port);
        store16(r + 20, rules[i].max_port ? rules[i].max_port : UINT16_MAX);
    }
    return n * POLICY_RULE_LEN;
}

/* On that host, which listens on port 3478 of each of its addresses, and whose HTTP is at
 * 20.0.0.6:9641. */
static struct policy *make(const struct rule_text *rules, size_t n)
{
    uint8_t bytes[32 * POLICY_RULE_LEN];
    struct addr guarded[2];
    CHECK(addr_parse(&guarded[0], "0.0.0.0", 3478) && addr_parse(&guarded[1], "20.0.0.6", 9641));
    const struct policy_facts facts = {
        .host = make_host(), .ports = &ports, .guarded = guarded, .guarded_count = 2};
    struct policy *p = policy_make(bytes, encode(bytes, rules, n), &facts);
    CHECK(p);
    host_drop(facts.host);
    return p;
}

static enum reach reach(const struct policy *p, const char *ip)
{
    struct addr a;
    char why_not[POLICY_TEXT_MAX];
    CHECK(addr_parse(&a, ip, 1234));
    return policy_reach(p, &a, why_not);
}

static bool allows(const struct policy *p, const char *ip)
{
    return reach(p, ip) != REACH_NONE;
}

/* By a session that relays at the port that is taken. */
static bool allows_at(const struct policy *p, const char *ip, uint16_t port)
{
    struct addr a, self;
    CHECK(addr_parse(&a, ip, port) && addr_parse(&self, "20.0.0.5", taken.port));
    enum reach r = reach(p, ip);
    return r != REACH_NONE && policy_allows_port(p, r, &a, &self);
}

static bool refuses_for(const struct policy *p, const char *ip, enum ctl_reason why)
{
    struct addr a;
    char why_not[POLICY_TEXT_MAX];
    return CHECK(addr_parse(&a, ip, 1234)) && policy_reach(p, &a, why_not) == REACH_NONE &&
           CHECK_STR(why_not, ctl_reasons[why].text);
}

static void the_first_match_decides_and_no_match_denies(void)
{
    static const struct rule_text rules[] = {{2, "0.0.0.0", 8, 0, 0},
                                             {1, "10.1.0.0", 16, 0, 0},
                                             {0, "10.0.0.0", 8, 0, 0},
                                             {1, "8.0.0.0", 8, 0, 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(!allows(p, "0.1.2.3"));
    CHECK(allows(p, "10.1.255.255"));
    CHECK(!allows(p, "10.2.0.0"));
    CHECK(allows(p, "8.8.8.8"));
    CHECK(!allows(p, "9.9.9.9"));
    CHECK(!allows(p, "2001:db8::1"));
    policy_drop(p);
}

static void x05_prefixes_compare_as_integers(void)
{
    static const struct rule_text rules[] = {
        {0, "2a0f:1::1:0", 112, 0, 0}, {0, "2a0f:1::2:0", 120, 0, 0}, {1, "::", 0, 0, 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(!allows(p, "2a0f:1::1:fffe"));
    CHECK(!allows(p, "2a0f:1::2:ff"));
    CHECK(allows(p, "2a0f:1::2:100"));
    policy_drop(p);
}

static void families_do_not_match_each_others_rules(void)
{
    static const struct rule_text rules[] = {{0, "::", 96, 0, 0}, {1, "::", 0, 0, 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(allows(p, "192.0.2.1")); /* canonically ::ffff:192.0.2.1, but no IPv6 address */
    CHECK(!allows(p, "::192.0.2.1"));
    policy_drop(p);
    static const struct rule_text v4_only[] = {{1, "0.0.0.0", 0, 0, 0}};
    p = make(v4_only, 1);
    CHECK(allows(p, "192.0.2.1"));
    CHECK(!allows(p, "2001:db8::1"));
    policy_drop(p);
}

static void x04_mapped_addresses_said_as_ipv6_are_denied_whatever_the_rules(void)
{
    static const struct rule_text rules[] = {{1, "::", 0, 0, 0}};
    struct policy *p = make(rules, 1);
    CHECK(allows(p, "192.0.2.1"));
    CHECK(!allows(p, "::ffff:192.0.2.1"));
    policy_drop(p);
}

static void x04_isatap_is_judged_by_what_it_hides(void)
{
    static const struct rule_text rules[] = {{0, "10.0.0.0", 8, 0, 0}, {1, "::", 0, 0, 0}};
    struct policy *p = make(rules, 2);
    CHECK(!allows(p, "2a00:1450::5efe:10.0.0.1"));
    CHECK(!allows(p, "2a00:1450::200:5efe:10.0.0.1"));
    CHECK(allows(p, "2a00:1450::200:5efe:11.0.0.1"));
    CHECK(allows(p, "2a00:1450::100:5efe:10.0.0.1")); /* no ISATAP identifier */
    policy_drop(p);
}

static void the_reason_names_the_network(void)
{
    static const struct rule_text rules[] = {{0, "10.9.8.7", 8, 0, 0}, {0, "fd00::1", 8, 0, 0}};
    struct policy *p = make(rules, 2);
    struct addr a;
    char why[POLICY_TEXT_MAX];
    CHECK(addr_parse(&a, "10.1.1.1", 0) && policy_reach(p, &a, why) == REACH_NONE);
    CHECK(strcmp(why, "10.0.0.0/8") == 0);
    CHECK(addr_parse(&a, "fd12::1", 0) && policy_reach(p, &a, why) == REACH_NONE);
    CHECK(strcmp(why, "fd00::/8") == 0);
    policy_drop(p);
}

static void malformed_rules_are_refused(void)
{
    const struct policy_facts facts = {.host = make_host()};
    uint8_t rule[POLICY_RULE_LEN] = {1, 129};
    CHECK(!policy_make(rule, sizeof(rule), &facts));
    rule[1] = 128;
    CHECK(!policy_make(rule, sizeof(rule) - 1, &facts));
    rule[0] = 4;
    CHECK(!policy_make(rule, sizeof(rule), &facts));
    rule[0] = 1;
    store16(rule + 18, 2); /* the first port, above the last */
    CHECK(!policy_make(rule, sizeof(rule), &facts));
    struct policy *p = policy_make(rule, 0, &facts);
    CHECK(p && refuses_for(p, "8.8.8.8", CTL_WHY_UNRULED));
    policy_drop(p);
    host_drop(facts.host);
}

/* ---------------------------------------------------------------------------- the host's own */

static const struct rule_text all[] = {{POLICY_ALLOW, "0.0.0.0", 0, 0, 0},
                                       {POLICY_ALLOW, "2000::", 3, 0, 0}};

static void unknown_host_forbids_everybody(void)
{
    uint8_t bytes[2 * POLICY_RULE_LEN];
    struct policy *p = policy_make(bytes, encode(bytes, all, 2), &(struct policy_facts){0});
    CHECK(refuses_for(p, "8.8.8.8", CTL_WHY_UNKNOWN_HOST));
    policy_drop(p);
}

static void an_own_address_is_no_broadcast_address(void)
{
    struct policy *p = make(all, 2);
    CHECK_EQ(reach(p, "20.0.0.5"), REACH_LIVE);
    CHECK(refuses_for(p, "20.0.0.255", CTL_WHY_BROADCAST));
    policy_drop(p);
}

static void x09_every_kind_of_own_address_is_forbidden(void)
{
    static const char *const own[] = {"20.0.0.6", "9.9.8.7", "9.9.8.255", "2a00:1:2:3::5",
                                      "2a00:1:2:3::"};
    struct policy *p = make(all, 2);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        CHECK(refuses_for(p, own[i], CTL_WHY_OWN_ADDRESS));
    CHECK_EQ(reach(p, "9.9.9.0"), REACH_ALL);
    CHECK_EQ(reach(p, "2a00:1:2:3::6"), REACH_ALL);
    policy_drop(p);
}

static void x10_relayed_ports_are_reached_where_they_live(void)
{
    struct policy *p = make(all, 2);
    struct addr other = {0}, self = {0};
    CHECK(addr_parse(&other, "20.0.0.5", taken.port) && addr_parse(&self, "20.0.0.5", 1));
    CHECK(policy_allows_port(p, REACH_LIVE, &other, &self));
    CHECK(!allows_at(p, "20.0.0.5", taken.port)); /* itself */
    CHECK(!allows_at(p, "20.0.0.5", 22));
    policy_drop(p);
}

/* Where UDP is relayed, TCP of the same port may be another program's. */
static void x15_a_port_that_relays_udp_is_no_peer_over_tcp(void)
{
    struct policy *p = make(all, 2);
    struct addr other = {0}, self = {0};
    CHECK(addr_parse(&other, "20.0.0.5", taken.port) && addr_parse(&self, "20.0.0.5", 1));
    CHECK(policy_allows_port(p, REACH_LIVE, &other, &self));
    CHECK(!policy_allows_stream(p, REACH_LIVE, &other, &self));
    CHECK(!policy_stream_pool_at(p, &other));
    policy_drop(p);
}

static void a_service_beside_it_is_opened_by_its_own_name_alone(void)
{
    static const struct rule_text rules[] = {{POLICY_OPEN, "20.0.0.6", 32, 10000, 10010},
                                             {POLICY_OPEN, "9.9.8.7", 32, 5000, 5000},
                                             {POLICY_OPEN, "20.0.0.5", 32, 0, 0},
                                             {POLICY_ALLOW, "0.0.0.0", 0, 0, 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(allows_at(p, "20.0.0.6", 10000) && allows_at(p, "20.0.0.6", 10010));
    CHECK(!allows_at(p, "20.0.0.6", 9999) && !allows_at(p, "20.0.0.6", 10011));
    CHECK(allows_at(p, "9.9.8.7", 5000));
    CHECK(refuses_for(p, "9.9.8.8", CTL_WHY_OWN_ADDRESS)); /* by a wider network: not */
    CHECK(allows_at(p, "20.0.0.5", 22));                   /* a relay address as well */
    CHECK(!allows_at(p, "20.0.0.5", taken.port));
    policy_drop(p);
}

static void what_the_server_listens_on_stays_closed_whatever_is_allowed(void)
{
    static const struct rule_text rules[] = {{POLICY_OPEN, "20.0.0.6", 32, 0, 0},
                                             {POLICY_OPEN, "20.0.0.5", 32, 3478, 3478},
                                             {POLICY_OPEN, "9.9.8.7", 32, 3478, 3478},
                                             {POLICY_ALLOW, "0.0.0.0", 0, 0, 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(allows_at(p, "20.0.0.6", 9640));
    CHECK(!allows_at(p, "20.0.0.6", 9641) && !allows_at(p, "20.0.0.6", 3478));
    CHECK(!allows_at(p, "20.0.0.5", 3478));
    CHECK_EQ(reach(p, "20.0.0.5"), REACH_LIVE);             /* relayed ports are there still */
    CHECK(refuses_for(p, "9.9.8.7", CTL_WHY_GUARDED_PORT)); /* it can never be used */
    CHECK(allows_at(p, "127.0.0.1", 53) && !allows_at(p, "127.0.0.1", 3478));
    CHECK(allows_at(p, "8.8.8.8", 3478)); /* another's is none of ours */
    policy_drop(p);
}

static void ports_of_others_are_as_the_rules_say(void)
{
    static const struct rule_text rules[] = {{POLICY_OPEN, "10.0.0.5", 32, 80, 80},
                                             {POLICY_OPEN, "10.0.0.5", 32, 443, 443},
                                             {POLICY_DENY, "10.0.0.0", 8, 0, 0},
                                             {POLICY_ALLOW, "0.0.0.0", 0, 0, 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK_EQ(reach(p, "10.0.0.5"), REACH_RULED);
    CHECK(allows_at(p, "10.0.0.5", 80) && allows_at(p, "10.0.0.5", 443));
    CHECK(!allows_at(p, "10.0.0.5", 81));
    CHECK(!allows(p, "10.0.0.6"));
    policy_drop(p);
}

static void a_refused_port_says_what_helps(void)
{
    static const struct rule_text rules[] = {{POLICY_OPEN, "20.0.0.6", 32, 1000, 4000},
                                             {POLICY_ALLOW, "0.0.0.0", 0, 0, 0}};
    static const struct {
        const char *ip;
        uint16_t port; /* 0: the one that is taken */
        enum ctl_reason why;
    } cases[] = {{"20.0.0.5", 22, CTL_WHY_OWN_PORT},
                 {"20.0.0.5", 0, CTL_WHY_ITSELF},
                 {"20.0.0.6", 3478, CTL_WHY_GUARDED_PORT},
                 {"20.0.0.6", 4001, CTL_WHY_CLOSED_PORT}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct addr a = {0};
        char why[POLICY_TEXT_MAX];
        CHECK(addr_parse(&a, cases[i].ip, cases[i].port ? cases[i].port : taken.port));
        policy_why_not_port(p, reach(p, cases[i].ip), &a, why);
        CHECK_STR(why, ctl_reasons[cases[i].why].text);
    }
    policy_drop(p);
}

static void a_relay_behind_a_nat_is_found_by_both_of_its_names(void)
{
    struct addr bound = {0}, told = {0}, at;
    CHECK(addr_parse(&bound, "9.9.8.7", 0) && addr_parse(&told, "203.0.113.2", 0));
    struct policy *p = make(all, 2);
    CHECK(!p->renames);
    policy_drop(p);
    CHECK_EQ(ports_add(&ports, 2, &bound, &told, 22000, 22001), 0);
    p = make(all, 2);
    CHECK(p->renames);
    CHECK_EQ(reach(p, "203.0.113.2"), REACH_LIVE);
    CHECK(!allows_at(p, "203.0.113.2", 22000)); /* nobody relays there */
    at = told;
    at.port = 22000;
    CHECK(!policy_pool_at(p, &at));
    atomic_store(&p->pools[1]->state[0], atomic_load(&taken.pool->state[0]));
    CHECK_EQ(policy_pool_at(p, &at), p->pools[1]);
    at = bound;
    at.port = 22000;
    CHECK_EQ(policy_pool_at(p, &at), p->pools[1]);
    policy_drop(p);
    static const struct rule_text rules[] = {{POLICY_OPEN, "203.0.113.2", 32, 3000, 4000},
                                             {POLICY_ALLOW, "0.0.0.0", 0, 0, 0}};
    p = make(rules, 2); /* what is opened of the outer address leads to the same ports */
    CHECK(allows_at(p, "203.0.113.2", 3000) && !allows_at(p, "203.0.113.2", 3478));
    policy_drop(p);
}

static void the_last_hold_frees(void)
{
    struct policy *p = make(all, 2);
    policy_drop(policy_hold(p));
    CHECK_EQ(reach(p, "8.8.8.8"), REACH_ALL);
    policy_drop(p);
    policy_drop(NULL);
}

/* A pool of this machine's loopback that goes by another name. */
static void relay_at(const char *ip)
{
    struct addr local = {0};
    uint64_t token;
    CHECK(addr_parse(&local, test_loopback(), 0));
    ports_init(&ports, &(struct socket_buffers){0});
    CHECK_EQ(ports_add(&ports, 1, &local, &local, 21000, 21000), 0);
    CHECK_EQ(port_take(&ports, ports_find(&ports, 1), 0, PORT_ANY, 0, &taken, &token), 0);
    CHECK(addr_parse(&ports.pools[0]->local, ip, 0));
    ports.pools[0]->advertised = ports.pools[0]->local;
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    relay_at("20.0.0.5");
    RUN(the_first_match_decides_and_no_match_denies);
    RUN(x05_prefixes_compare_as_integers);
    RUN(families_do_not_match_each_others_rules);
    RUN(x04_mapped_addresses_said_as_ipv6_are_denied_whatever_the_rules);
    RUN(x04_isatap_is_judged_by_what_it_hides);
    RUN(the_reason_names_the_network);
    RUN(malformed_rules_are_refused);
    RUN(unknown_host_forbids_everybody);
    RUN(an_own_address_is_no_broadcast_address);
    RUN(x09_every_kind_of_own_address_is_forbidden);
    RUN(x10_relayed_ports_are_reached_where_they_live);
    RUN(x15_a_port_that_relays_udp_is_no_peer_over_tcp);
    RUN(a_service_beside_it_is_opened_by_its_own_name_alone);
    RUN(what_the_server_listens_on_stays_closed_whatever_is_allowed);
    RUN(ports_of_others_are_as_the_rules_say);
    RUN(a_refused_port_says_what_helps);
    RUN(a_relay_behind_a_nat_is_found_by_both_of_its_names);
    RUN(the_last_hold_frees);
    close(taken.fd);
    ports_destroy(&ports);
    return test_end("policy");
}
