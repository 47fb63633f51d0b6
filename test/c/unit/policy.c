/*
 * Peer rules on one canonical form (threats X02-X05, X08, X18), and the host's own addresses.
 */
#include "policy.h"

#include "test.h"

static struct ports none; /* no relayed address */
static const struct policy_host nothing;

struct rule_text {
    int verdict;
    const char *ip;
    unsigned bits; /* as written: IPv4 prefixes up to 32 */
};

static struct policy *make(const struct rule_text *rules, size_t n)
{
    uint8_t bytes[32 * POLICY_RULE_LEN];
    for (size_t i = 0; i < n; i++) {
        uint8_t *r = bytes + i * POLICY_RULE_LEN;
        struct addr a = {0};
        CHECK(addr_parse(&a, rules[i].ip, 0));
        r[0] = (uint8_t)rules[i].verdict;
        r[1] = (uint8_t)(rules[i].bits + (a.family == ADDR_V4 ? 96 : 0));
        memcpy(r + 2, a.ip, 16);
    }
    struct policy *p = policy_make(bytes, n * POLICY_RULE_LEN, &nothing);
    CHECK(p);
    return p;
}

static bool allows(const struct policy *p, const char *ip)
{
    struct addr a;
    char why_not[POLICY_TEXT_MAX];
    CHECK(addr_parse(&a, ip, 1234));
    return policy_allows_ip(p, &none, &a, why_not);
}

static void the_first_match_decides_and_no_match_denies(void)
{
    static const struct rule_text rules[] = {
        {2, "0.0.0.0", 8}, {1, "10.1.0.0", 16}, {0, "10.0.0.0", 8}, {1, "8.0.0.0", 8}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(!allows(p, "0.1.2.3"));
    CHECK(allows(p, "10.1.255.255"));
    CHECK(!allows(p, "10.2.0.0"));
    CHECK(allows(p, "8.8.8.8"));
    CHECK(!allows(p, "9.9.9.9"));
    CHECK(!allows(p, "2001:db8::1"));
    policy_free(p);
}

static void x05_prefixes_compare_as_integers(void)
{
    static const struct rule_text rules[] = {
        {0, "2a0f:1::1:0", 112}, {0, "2a0f:1::2:0", 120}, {1, "::", 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(!allows(p, "2a0f:1::1:fffe"));
    CHECK(!allows(p, "2a0f:1::2:ff"));
    CHECK(allows(p, "2a0f:1::2:100"));
    policy_free(p);
}

static void families_do_not_match_each_others_rules(void)
{
    static const struct rule_text rules[] = {{0, "::", 96}, {1, "::", 0}};
    struct policy *p = make(rules, ARRAY_SIZE(rules));
    CHECK(allows(p, "192.0.2.1")); /* canonically ::ffff:192.0.2.1, but no IPv6 address */
    CHECK(!allows(p, "::192.0.2.1"));
    policy_free(p);
    static const struct rule_text v4_only[] = {{1, "0.0.0.0", 0}};
    p = make(v4_only, 1);
    CHECK(allows(p, "192.0.2.1"));
    CHECK(!allows(p, "2001:db8::1"));
    policy_free(p);
}

static void x04_mapped_addresses_said_as_ipv6_are_denied_whatever_the_rules(void)
{
    static const struct rule_text rules[] = {{1, "::", 0}};
    struct policy *p = make(rules, 1);
    CHECK(allows(p, "192.0.2.1"));
    CHECK(!allows(p, "::ffff:192.0.2.1"));
    policy_free(p);
}

static void x04_isatap_is_judged_by_what_it_hides(void)
{
    static const struct rule_text rules[] = {{0, "10.0.0.0", 8}, {1, "::", 0}};
    struct policy *p = make(rules, 2);
    CHECK(!allows(p, "2a00:1450::5efe:10.0.0.1"));
    CHECK(!allows(p, "2a00:1450::200:5efe:10.0.0.1"));
    CHECK(allows(p, "2a00:1450::200:5efe:11.0.0.1"));
    CHECK(allows(p, "2a00:1450::100:5efe:10.0.0.1")); /* no ISATAP identifier */
    policy_free(p);
}

static void the_reason_names_the_network(void)
{
    static const struct rule_text rules[] = {{0, "10.9.8.7", 8}, {0, "fd00::1", 8}};
    struct policy *p = make(rules, 2);
    struct addr a;
    char why[POLICY_TEXT_MAX];
    CHECK(addr_parse(&a, "10.1.1.1", 0) && !policy_allows_ip(p, &none, &a, why));
    CHECK(strcmp(why, "10.0.0.0/8") == 0);
    CHECK(addr_parse(&a, "fd12::1", 0) && !policy_allows_ip(p, &none, &a, why));
    CHECK(strcmp(why, "fd00::/8") == 0);
    policy_free(p);
}

static void malformed_rules_are_refused(void)
{
    uint8_t rule[POLICY_RULE_LEN] = {1, 129};
    CHECK(!policy_make(rule, sizeof(rule), &nothing));
    rule[1] = 128;
    CHECK(!policy_make(rule, sizeof(rule) - 1, &nothing));
    rule[0] = 3;
    CHECK(!policy_make(rule, sizeof(rule), &nothing));
    struct policy *p = policy_make(rule, 0, &nothing);
    CHECK(p && !allows(p, "8.8.8.8"));
    policy_free(p);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(the_first_match_decides_and_no_match_denies);
    RUN(x05_prefixes_compare_as_integers);
    RUN(families_do_not_match_each_others_rules);
    RUN(x04_mapped_addresses_said_as_ipv6_are_denied_whatever_the_rules);
    RUN(x04_isatap_is_judged_by_what_it_hides);
    RUN(the_reason_names_the_network);
    RUN(malformed_rules_are_refused);
    return test_end("policy");
}
