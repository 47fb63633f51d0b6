#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "ctl.h"

static const uint8_t v4_mapped[16] = {[10] = 0xff, [11] = 0xff};

/* IPv4 prefixes come as ::ffff:0:0/96 and more; what else has bits is of IPv6 alone, though an
 * IPv4 address in its canonical form might match it too. */
static uint8_t rule_family(const uint8_t prefix[16], unsigned bits)
{
    if (bits == 0)
        return ADDR_NONE;
    return bits >= 96 && addr_in_prefix(prefix, v4_mapped, 96) ? ADDR_V4 : ADDR_V6;
}

/* False for a rule that says nothing. */
static bool read_rule(struct policy_rule *rule, const uint8_t *r)
{
    if (r[0] > POLICY_OPEN || r[1] > 128)
        return false;
    rule->verdict = r[0];
    rule->bits = r[1];
    for (unsigned byte = 0; byte < (rule->bits + 7u) / 8; byte++)
        rule->prefix[byte] = r[2 + byte];
    if (rule->bits % 8) /* bits behind the prefix say nothing: it is named without them */
        rule->prefix[rule->bits / 8] &= (uint8_t)(0xff00 >> rule->bits % 8);
    rule->family = rule_family(rule->prefix, rule->bits);
    rule->min_port = load16(r + 18);
    rule->max_port = load16(r + 20);
    return rule->min_port <= rule->max_port;
}

static void take_pools(struct policy *p, const struct ports *ports)
{
    for (uint32_t i = 0; ports && i < ports->pool_count; i++) {
        struct pool *pool = pool_hold(ports->pools[i]);
        p->pools[p->pool_count++] = pool;
        p->renames |= !addr_ip_equal(&pool->local, &pool->advertised) ||
                      pool->local.scope != pool->advertised.scope;
    }
}

/* What is guarded, and under the names that a 1:1 NAT gives it: that shows the same ports. False
 * without memory. */
static bool take_guarded(struct policy *p, const struct addr *guarded, uint32_t n)
{
    p->guarded = calloc((size_t)n * (p->pool_count + 1) + 1, sizeof(*p->guarded));
    if (!p->guarded)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        p->guarded[p->guarded_count++] = guarded[i];
        for (uint32_t k = 0; p->renames && k < p->pool_count; k++) {
            struct addr told = p->pools[k]->advertised;
            told.port = guarded[i].port;
            if (addr_ip_equal(&p->pools[k]->local, &guarded[i]))
                p->guarded[p->guarded_count++] = told;
        }
    }
    return true;
}

struct policy *policy_make(const uint8_t *rules, size_t len, const struct policy_facts *facts)
{
    if (len % POLICY_RULE_LEN != 0 || len / POLICY_RULE_LEN > POLICY_RULES_MAX)
        return NULL;
    uint32_t n = (uint32_t)(len / POLICY_RULE_LEN);
    struct policy *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    atomic_init(&p->holds, 1);
    p->rules = calloc(n + 1u, sizeof(*p->rules));
    take_pools(p, facts->ports);
    if (!p->rules || !take_guarded(p, facts->guarded, facts->guarded_count))
        goto err;
    for (; p->rule_count < n; p->rule_count++)
        if (!read_rule(&p->rules[p->rule_count], rules + (size_t)p->rule_count * POLICY_RULE_LEN))
            goto err;
    p->host = facts->host ? host_hold(facts->host) : NULL;
    return p;

err:
    policy_drop(p);
    return NULL;
}

struct policy *policy_hold(struct policy *p)
{
    atomic_fetch_add_explicit(&p->holds, 1, memory_order_relaxed);
    return p;
}

void policy_drop(struct policy *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->holds, 1, memory_order_acq_rel) != 1)
        return;
    while (p->pool_count > 0)
        pool_drop(p->pools[--p->pool_count]);
    host_drop(p->host);
    free(p->rules);
    free(p->guarded);
    free(p);
}

/* --------------------------------------------------------------------------------- its own pools
 */

static bool is_at(const struct pool *pool, const struct addr *ip)
{
    return addr_ip_equal(&pool->local, ip) || addr_ip_equal(&pool->advertised, ip);
}

static bool is_relay(const struct policy *p, const struct addr *ip)
{
    for (uint32_t i = 0; i < p->pool_count; i++)
        if (is_at(p->pools[i], ip))
            return true;
    return false;
}

const struct pool *policy_pool_at(const struct policy *p, const struct addr *a)
{
    for (uint32_t i = 0; i < p->pool_count; i++)
        if (is_at(p->pools[i], a) && port_is_live(p->pools[i], a->port))
            return p->pools[i];
    return NULL;
}

const struct pool *policy_stream_pool_at(const struct policy *p, const struct addr *a)
{
    for (uint32_t i = 0; i < p->pool_count; i++)
        if (is_at(p->pools[i], a) && port_is_stream(p->pools[i], a->port))
            return p->pools[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------- addresses
 */

static bool is_loopback(const struct addr *a)
{
    static const uint8_t v6[16] = {[15] = 1};
    return a->family == ADDR_V4 ? addr_v4(a)[0] == 127 : memcmp(a->ip, v6, 16) == 0;
}

/* ::ffff:a.b.c.d said as an IPv6 address is a disguise, whatever the rules say of a.b.c.d. */
static bool is_disguised_v4(const struct addr *a)
{
    return a->family == ADDR_V6 && addr_in_prefix(a->ip, v4_mapped, 96);
}

/* ISATAP (RFC 5214) hides an IPv4 address in the interface identifier of any prefix; what lies
 * behind the tunnel is as forbidden as it is in the open (threat X04). */
static bool unwrap_isatap(const struct addr *a, struct addr *v4)
{
    static const uint8_t id[4] = {0x00, 0x00, 0x5e, 0xfe};
    const uint8_t *p = a->ip + 8;
    if (a->family != ADDR_V6 || (p[0] & ~0x02) != id[0] || memcmp(p + 1, id + 1, 3) != 0)
        return false;
    *v4 = addr_from_v4(a->ip + 12, a->port);
    return true;
}

static void name_rule(const struct policy_rule *rule, char out[POLICY_TEXT_MAX])
{
    bool v4 = rule->family == ADDR_V4;
    struct addr a = v4 ? addr_from_v4(rule->prefix + 12, 0) : addr_from_v6(rule->prefix, 0);
    char text[ADDR_TEXT_MAX];
    snprintf(out, POLICY_TEXT_MAX, "%s/%u", addr_format_ip(&a, text),
             v4 ? rule->bits - 96u : rule->bits);
}

/* ----------------------------------------------------------------------------------- the verdict
 */

static bool matches(const struct policy_rule *rule, const struct addr *peer)
{
    return (rule->family == ADDR_NONE || rule->family == peer->family) &&
           addr_in_prefix(peer->ip, rule->prefix, rule->bits);
}

static bool has_port(const struct policy_rule *rule, uint16_t port)
{
    return rule->min_port <= port && port <= rule->max_port;
}

static bool has_all_ports(const struct policy_rule *rule)
{
    return rule->min_port <= 1 && rule->max_port == UINT16_MAX;
}

static bool denies(const struct policy_rule *rule)
{
    return rule->verdict == POLICY_DENY || rule->verdict == POLICY_NEVER;
}

/* The first rule from this one on that holds the IP; NULL where there is none. */
static const struct policy_rule *match(const struct policy *p, const struct policy_rule *from,
                                       const struct addr *peer)
{
    const struct policy_rule *end = p->rules + p->rule_count;
    for (; from < end; from++)
        if (matches(from, peer))
            return from;
    return NULL;
}

/* Does the IP belong to this host: interfaces, prefixes and anycast alike, and what a 1:1 NAT shows
 * of it? */
static bool is_own(const struct policy *p, const struct addr *ip)
{
    enum host_kind kind = host_kind(p->host, ip);
    return kind == HOST_LOCAL || kind == HOST_ANYCAST || is_loopback(ip) || is_relay(p, ip);
}

static inline bool is_guarded(const struct policy *p, const struct addr *peer)
{
    for (uint32_t i = 0; i < p->guarded_count; i++) {
        const struct addr *g = &p->guarded[i];
        if (g->port == peer->port && (addr_is_any(g) || addr_ip_equal(g, peer)))
            return true;
    }
    return false;
}

/* Does a rule open a port of an own address that is not guarded? */
static bool opens_any(const struct policy *p, const struct policy_rule *rule,
                      const struct addr *peer)
{
    struct addr at = *peer;
    if (rule->max_port - rule->min_port >= (int)p->guarded_count)
        return true;
    for (uint32_t port = MAX(rule->min_port, 1); port <= rule->max_port; port++) {
        at.port = (uint16_t)port;
        if (!is_guarded(p, &at))
            return true;
    }
    return false;
}

static enum reach forbidden(char why_not[POLICY_TEXT_MAX], enum ctl_reason why)
{
    snprintf(why_not, POLICY_TEXT_MAX, "%s", ctl_reasons[why].text);
    return REACH_NONE;
}

/* The IP belongs to this host, and this rule allows it. */
static enum reach reach_own(const struct policy *p, const struct policy_rule *rule,
                            const struct addr *peer, char why_not[POLICY_TEXT_MAX])
{
    if (rule->verdict == POLICY_OPEN && !has_all_ports(rule) && opens_any(p, rule, peer))
        return REACH_RULED;
    if (has_all_ports(rule) && (rule->verdict == POLICY_OPEN || is_loopback(peer)))
        return REACH_OPEN;
    if (is_relay(p, peer))
        return REACH_LIVE;
    return forbidden(why_not,
                     rule->verdict == POLICY_OPEN ? CTL_WHY_GUARDED_PORT : CTL_WHY_OWN_ADDRESS);
}

enum reach policy_reach(const struct policy *p, const struct addr *peer,
                        char why_not[POLICY_TEXT_MAX])
{
    struct addr inside;
    if (!p->host)
        return forbidden(why_not, CTL_WHY_UNKNOWN_HOST);
    if (is_disguised_v4(peer))
        return forbidden(why_not, CTL_WHY_MAPPED);
    if (unwrap_isatap(peer, &inside) && policy_reach(p, &inside, why_not) == REACH_NONE)
        return REACH_NONE;
    if (host_kind(p->host, peer) == HOST_BROADCAST)
        return forbidden(why_not, CTL_WHY_BROADCAST);
    const struct policy_rule *rule = match(p, p->rules, peer);
    if (!rule)
        return forbidden(why_not, CTL_WHY_UNRULED);
    if (denies(rule)) {
        name_rule(rule, why_not);
        return REACH_NONE;
    }
    if (is_own(p, peer))
        return reach_own(p, rule, peer, why_not);
    return has_all_ports(rule) ? REACH_ALL : REACH_RULED;
}

/* By the first rule that holds IP and port. */
static bool is_ruled_in(const struct policy *p, const struct addr *peer)
{
    const struct policy_rule *rule = p->rules;
    while ((rule = match(p, rule, peer)) && !has_port(rule, peer->port))
        rule++;
    if (!rule || denies(rule))
        return false;
    return !is_own(p, peer) || rule->verdict == POLICY_OPEN || is_loopback(peer);
}

/* pool: where one of ours relays there. */
bool policy_allows_at(const struct policy *p, const struct pool *pool, enum reach reach,
                      const struct addr *peer, const struct addr *self)
{
    if (pool) {
        bool itself = self->port == peer->port &&
                      (addr_ip_equal(self, &pool->local) || addr_ip_equal(self, &pool->advertised));
        return !itself;
    }
    switch (reach) {
    case REACH_ALL:
        return true;
    case REACH_OPEN:
        return !is_guarded(p, peer);
    case REACH_RULED:
        return is_ruled_in(p, peer) && !(is_own(p, peer) && is_guarded(p, peer));
    default:
        return false;
    }
}

bool policy_allows_port(const struct policy *p, enum reach reach, const struct addr *peer,
                        const struct addr *self)
{
    return policy_allows_at(p, policy_pool_at(p, peer), reach, peer, self);
}

bool policy_allows_stream(const struct policy *p, enum reach reach, const struct addr *peer,
                          const struct addr *self)
{
    return policy_allows_at(p, policy_stream_pool_at(p, peer), reach, peer, self);
}

void policy_why_not_port(const struct policy *p, enum reach reach, const struct addr *peer,
                         char why_not[POLICY_TEXT_MAX])
{
    if (policy_pool_at(p, peer) || policy_stream_pool_at(p, peer))
        forbidden(why_not, CTL_WHY_ITSELF);
    else if (is_own(p, peer) && is_guarded(p, peer))
        forbidden(why_not, CTL_WHY_GUARDED_PORT);
    else
        forbidden(why_not, reach == REACH_RULED ? CTL_WHY_CLOSED_PORT : CTL_WHY_OWN_PORT);
}
