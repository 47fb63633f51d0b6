/*
 * What this machine answers to: every address and prefix of it, as the kernel's own routing tables
 * have them. An interface's addresses are less than that: a route of type local may hold a whole
 * prefix (AnyIP), and a host that forwards IPv6 takes the first address of each of its prefixes for
 * its own (RFC 4291 2.6.1).
 *
 * Pure: routes.h reads the tables. A struct host is immutable once made and shared by whoever holds
 * it; the last hold that is dropped frees it.
 */
#ifndef MEERKAT_HOST_H
#define MEERKAT_HOST_H

#include "addr.h"

/* In order of precedence, where one prefix has more than one: what is an own address is no
 * broadcast address. */
enum host_kind { HOST_OTHER = 0, HOST_LOCAL, HOST_ANYCAST, HOST_BROADCAST, HOST_MULTICAST };

/* A prefix in the canonical form of struct addr: IPv4 /n has 96 + n bits. */
struct host_prefix {
    uint8_t family;
    uint8_t bits;
    uint8_t kind;
    uint8_t ip[16];
};

/* What is being read: prefixes in any order, any number of times. Zero is an empty one. */
struct host_list {
    struct host_prefix *all;
    size_t count, room;
};

/* False without memory; the list is as it was. */
bool host_list_add(struct host_list *l, const struct host_prefix *p);
void host_list_free(struct host_list *l);

struct host;

/* Of the prefixes of a list, which stays its owner's. With one hold; NULL without memory. */
struct host *host_make(const struct host_list *l);
struct host *host_hold(struct host *h);
void host_drop(struct host *h); /* NULL is fine */

/* What the longest prefix around this IP is; HOST_OTHER where none is. By bisection. */
enum host_kind host_kind(const struct host *h, const struct addr *ip);

bool host_equal(const struct host *a, const struct host *b);
size_t host_count(const struct host *h);

#endif
