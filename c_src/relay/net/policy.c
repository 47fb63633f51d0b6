#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

static const uint8_t v4_mapped[16] = {[10] = 0xff, [11] = 0xff};

/* IPv4 prefixes come as ::ffff:0:0/96 and more; what else has bits is of IPv6 alone, though an
 * IPv4 address in its canonical form might match it too. */
static uint8_t rule_family(const uint8_t prefix[16], unsigned bits)
{
    if (bits == 0)
        return ADDR_NONE;
    return bits >= 96 && addr_in_prefix(prefix, v4_mapped, 96) ? ADDR_V4 : ADDR_V6;
}

static struct addr *copy(const struct addr *from, uint32_t n)
{
    struct addr *to = calloc(n + 1u, sizeof(*to));
    for (uint32_t i = 0; to && i < n; i++)
        to[i] = from[i];
    return to;
}

/* False for a rule that says nothing. */
static bool read_rule(struct policy_rule *rule, const uint8_t *r)
{
    if (r[0] > 2 || r[1] > 128)
        return false;
    rule->allow = r[0] == 1;
    rule->bits = r[1];
    for (unsigned byte = 0; byte < (rule->bits + 7u) / 8; byte++)
        rule->prefix[byte] = r[2 + byte];
    if (rule->bits % 8) /* bits behind the prefix say nothing: it is named without them */
        rule->prefix[rule->bits / 8] &= (uint8_t)(0xff00 >> rule->bits % 8);
    rule->family = rule_family(rule->prefix, rule->bits);
    return true;
}

struct policy *policy_make(const uint8_t *rules, size_t len, const struct policy_host *host)
{
    if (len % POLICY_RULE_LEN != 0 || len / POLICY_RULE_LEN > POLICY_RULES_MAX)
        return NULL;
    uint32_t n = (uint32_t)(len / POLICY_RULE_LEN);
    struct policy *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->rules = calloc(n + 1u, sizeof(*p->rules));
    p->own = copy(host->own, p->own_count = host->own_count);
    p->broadcast = copy(host->broadcast, p->broadcast_count = host->broadcast_count);
    p->listeners = copy(host->listeners, p->listener_count = host->listener_count);
    if (!p->rules || !p->own || !p->broadcast || !p->listeners)
        goto err;
    for (; p->rule_count < n; p->rule_count++)
        if (!read_rule(&p->rules[p->rule_count], rules + (size_t)p->rule_count * POLICY_RULE_LEN))
            goto err;
    return p;

err:
    policy_free(p);
    return NULL;
}

void policy_free(struct policy *p)
{
    if (!p)
        return;
    free(p->rules);
    free(p->own);
    free(p->broadcast);
    free(p->listeners);
    free(p);
}

static bool has_ip(const struct addr *all, uint32_t n, const struct addr *ip)
{
    for (uint32_t i = 0; i < n; i++)
        if (addr_ip_equal(&all[i], ip))
            return true;
    return false;
}

static bool is_own_interface(const struct policy *p, const struct addr *peer)
{
    return has_ip(p->own, p->own_count, peer);
}

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

bool policy_allows_ip(const struct policy *p, const struct ports *ports, const struct addr *peer,
                      char why_not[POLICY_TEXT_MAX])
{
    if (is_disguised_v4(peer)) {
        snprintf(why_not, POLICY_TEXT_MAX, "::ffff:0:0/96");
        return false;
    }
    struct addr inside;
    if (unwrap_isatap(peer, &inside) && !policy_allows_ip(p, ports, &inside, why_not))
        return false;
    if (has_ip(p->broadcast, p->broadcast_count, peer)) {
        snprintf(why_not, POLICY_TEXT_MAX, "a broadcast address of this host");
        return false;
    }
    for (uint32_t i = 0; i < p->rule_count; i++) {
        const struct policy_rule *rule = &p->rules[i];
        if (rule->family != ADDR_NONE && rule->family != peer->family)
            continue;
        if (!addr_in_prefix(peer->ip, rule->prefix, rule->bits))
            continue;
        if (!rule->allow) {
            name_rule(rule, why_not);
            return false;
        }
        /* An address of this host is of use only where we relay, or on loopback where that is
         * allowed at all. */
        if (is_own_interface(p, peer) && !is_loopback(peer) && !ports_by_ip(ports, peer)) {
            snprintf(why_not, POLICY_TEXT_MAX, "an address of this host");
            return false;
        }
        return true;
    }
    snprintf(why_not, POLICY_TEXT_MAX, "no rule allows it");
    return false;
}

bool policy_is_own(const struct policy *p, const struct ports *ports, const struct addr *peer)
{
    return is_loopback(peer) || is_own_interface(p, peer) || ports_by_ip(ports, peer);
}

static bool is_listener(const struct policy *p, const struct addr *peer)
{
    for (uint32_t i = 0; i < p->listener_count; i++) {
        const struct addr *l = &p->listeners[i];
        if (l->port == peer->port && (addr_is_any(l) || addr_ip_equal(l, peer)))
            return true;
    }
    return false;
}

bool policy_allows_port(const struct policy *p, const struct ports *ports, const struct addr *peer,
                        const struct addr *self)
{
    const struct pool *pool = ports_live_at(ports, peer);
    if (pool) {
        bool itself = self->port == peer->port &&
                      (addr_ip_equal(self, &pool->local) || addr_ip_equal(self, &pool->advertised));
        return !itself;
    }
    return is_loopback(peer) && !is_listener(p, peer);
}
