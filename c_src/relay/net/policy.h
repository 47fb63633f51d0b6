/*
 * Which peers may be reached: rules by prefix, in order, the first match decides; and what this
 * host must not be talked into: its own addresses, but for relayed ports that live (two clients
 * of one server call each other that way). One verdict for every entry: permission, channel, Send.
 *
 * Immutable once made: the control thread makes a new one and mails it; workers only read.
 */
#ifndef MEERKAT_POLICY_H
#define MEERKAT_POLICY_H

#include "port.h"

enum { POLICY_RULE_LEN = 18, POLICY_RULES_MAX = 4096, POLICY_TEXT_MAX = 80 };

struct policy_rule {
    bool allow;
    uint8_t family; /* ADDR_NONE: both (a prefix of no bits) */
    uint8_t bits;
    uint8_t prefix[16];
};

struct policy {
    uint32_t rule_count;
    uint32_t own_count;       /* addresses of this host's interfaces */
    uint32_t broadcast_count; /* and where they broadcast to */
    uint32_t listener_count;  /* ours, with port; a wildcard IP means every own address */
    struct policy_rule *rules;
    struct addr *own;
    struct addr *broadcast;
    struct addr *listeners;
};

/* What the host is, as far as the verdict depends on it. */
struct policy_host {
    const struct addr *own;
    uint32_t own_count;
    const struct addr *broadcast;
    uint32_t broadcast_count;
    const struct addr *listeners;
    uint32_t listener_count;
};

/* From the bytes of POLICY (ctl.def). NULL when they are malformed or memory is out. */
struct policy *policy_make(const uint8_t *rules, size_t len, const struct policy_host *host);
void policy_free(struct policy *p);

/* May this IP, whatever the port, be permitted? When not, why_not says which network. */
bool policy_allows_ip(const struct policy *p, const struct ports *ports, const struct addr *peer,
                      char why_not[POLICY_TEXT_MAX]);

/* Is the IP one of this host's, so that policy_allows_port must be asked before each use? */
bool policy_is_own(const struct policy *p, const struct ports *ports, const struct addr *peer);

/* May a permitted own IP be reached on this very port by a session that relays at `self`? */
bool policy_allows_port(const struct policy *p, const struct ports *ports, const struct addr *peer,
                        const struct addr *self);

#endif
