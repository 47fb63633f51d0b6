/*
 * A transport address in one canonical form: 16 bytes of IP (IPv4 stands as ::ffff:a.b.c.d),
 * port, and the family it has on the wire. Comparison, prefix match, text and sockaddr.
 * Knows no policy: what an address may be used for is decided elsewhere.
 */
#ifndef MEERKAT_ADDR_H
#define MEERKAT_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base.h"

enum addr_family { ADDR_NONE = 0, ADDR_V4 = 4, ADDR_V6 = 6 };

/* Zero is "no address". Copy by assignment; compare with addr_equal, never with memcmp. */
struct addr {
    uint8_t ip[16];
    uint16_t port; /* host order */
    uint8_t family;
    uint8_t pad;
    uint32_t scope; /* interface of an IPv6 link-local address, else 0; takes no part in equality */
};

enum { ADDR_TEXT_MAX = 64 }; /* "[v6%scope]:port" and its NUL */

static inline const uint8_t *addr_v4(const struct addr *a)
{
    return a->ip + 12;
}

/* From 4 network bytes. */
struct addr addr_from_v4(const uint8_t ip[4], uint16_t port);

/* From 16 network bytes; the family is V6 even when the bytes are v4-mapped. */
struct addr addr_from_v6(const uint8_t ip[16], uint16_t port);

/* False, and *out untouched, unless sa is a complete AF_INET or AF_INET6 address. A v4-mapped
 * sockaddr_in6 stays V6: sockets here are V6ONLY, so it can only be a disguise. */
bool addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t len);

/* Fills *ss and returns its length; 0 for no address. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);

/* Parses an IP literal ("192.0.2.1", "2001:db8::1"); port becomes `port`. */
bool addr_parse(struct addr *out, const char *ip, uint16_t port);

/* "192.0.2.1:80", "[2001:db8::1]:80"; returns buf, which holds ADDR_TEXT_MAX bytes. */
const char *addr_format(const struct addr *a, char *buf);

/* Same without the port, "192.0.2.1". */
const char *addr_format_ip(const struct addr *a, char *buf);

static inline bool addr_ip_equal(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && __builtin_memcmp(a->ip, b->ip, 16) == 0;
}

static inline bool addr_equal(const struct addr *a, const struct addr *b)
{
    return a->port == b->port && addr_ip_equal(a, b);
}

/* True for 0.0.0.0 and ::. */
bool addr_is_any(const struct addr *a);

/* Do the first `bits` bits of a and b agree? On the 16-byte form: an IPv4 prefix /n is 96+n. */
bool addr_in_prefix(const uint8_t ip[16], const uint8_t prefix[16], unsigned bits);

#endif
