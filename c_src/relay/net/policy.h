/*
 * Which peers may be reached: rules by prefix and port, in order, the first match decides; and what
 * this host must not be talked into: its own addresses, but for relayed ports that live (two
 * clients of one server call each other that way) and what a rule opens that names one of them. One
 * verdict for every entry: permission, channel, Send.
 *
 * Immutable once made, and shared: the control thread makes one whenever rules, listeners, pools or
 * the addresses of the host change, and mails it to every worker. A worker takes it up between two
 * packets and drops the one before; the last hold that is dropped frees it.
 */
#ifndef MEERKAT_POLICY_H
#define MEERKAT_POLICY_H

#include <stdatomic.h>

#include "host.h"
#include "port.h"

enum {
    POLICY_RULE_LEN = 22,
    POLICY_RULES_MAX = 4096,
    POLICY_TEXT_MAX = 80,
    GUARDED_MAX = 64, /* that Erlang names; listeners come beside */
};

/* As in POLICY (ctl.def). */
enum policy_verdict { POLICY_DENY = 0, POLICY_ALLOW = 1, POLICY_NEVER = 2, POLICY_OPEN = 3 };

struct policy_rule {
    uint8_t verdict;
    uint8_t family; /* ADDR_NONE: both (a prefix of no bits) */
    uint8_t bits;
    uint8_t prefix[16];
    uint16_t min_port, max_port;
};

/* What the verdict depends on besides rules. */
struct policy_facts {
    struct host *host; /* NULL: not known, so nobody may be reached */
    const struct ports *ports;
    const struct addr *guarded; /* ports of ours that are no peer; any IP is every own address */
    uint32_t guarded_count;
};

/* At which ports an IP may be reached. */
enum reach {
    REACH_NONE = 0, /* forbidden */
    REACH_ALL,
    REACH_LIVE,  /* relayed ports of ours that live */
    REACH_OPEN,  /* those, and all that are not guarded */
    REACH_RULED, /* those, and all that rules allow and that are not guarded ports of ours */
};

struct policy {
    _Atomic uint32_t holds;
    bool renames; /* there are pools behind a 1:1 NAT */
    uint32_t rule_count;
    uint32_t guarded_count;
    uint32_t pool_count;
    struct policy_rule *rules;
    struct addr *guarded;
    struct host *host;
    struct pool *pools[POOLS_MAX];
};

/* From the bytes of POLICY (ctl.def). NULL when they are malformed or memory is out. */
struct policy *policy_make(const uint8_t *rules, size_t len, const struct policy_facts *facts);
struct policy *policy_hold(struct policy *p);
void policy_drop(struct policy *p); /* NULL is fine */

/* May this IP be permitted, whatever the port? When not, or not anymore, why_not says which network
 * forbids it or what it is. */
enum reach policy_reach(const struct policy *p, const struct addr *peer,
                        char why_not[POLICY_TEXT_MAX]);

/* May an IP of that reach be sent to at this very port, by a session that relays at `self`? */
bool policy_allows_port(const struct policy *p, enum reach reach, const struct addr *peer,
                        const struct addr *self);
/* The same where it is known already what policy_pool_at says of the peer. */
bool policy_allows_at(const struct policy *p, const struct pool *pool, enum reach reach,
                      const struct addr *peer, const struct addr *self);
/* The same of a port of TCP. Where UDP is relayed at a port, its TCP may be anybody's, and the
 * other way round. */
bool policy_allows_stream(const struct policy *p, enum reach reach, const struct addr *peer,
                          const struct addr *self);

/* Why not, for whoever is to be told. */
void policy_why_not_port(const struct policy *p, enum reach reach, const struct addr *peer,
                         char why_not[POLICY_TEXT_MAX]);

/* The pool where a live allocation relays UDP at this address and port, as bound or as advertised;
 * NULL if none. Pools may share an address and divide its ports. */
const struct pool *policy_pool_at(const struct policy *p, const struct addr *a);
/* The same of TCP. */
const struct pool *policy_stream_pool_at(const struct policy *p, const struct addr *a);

#endif
