/*
 * A transport address in one canonical form: 16 bytes of IP (IPv4 stands as ::ffff:a.b.c.d),
 * port, and the family it has on the wire. Comparison, prefix match, text and sockaddr.
 * Knows no policy: what an address may be used for is decided elsewhere.
 */
#ifndef MEERKAT_ADDR_H
#define MEERKAT_ADDR_H

#include <netinet/in.h>
#include <string.h>
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
static inline struct addr addr_from_v4(const uint8_t ip[4], uint16_t port)
{
    struct addr a = {.ip = {[10] = 0xff, [11] = 0xff}, .port = port, .family = ADDR_V4};
    memcpy(a.ip + 12, ip, 4);
    return a;
}

/* From 16 network bytes; the family is V6 even when the bytes are v4-mapped. */
static inline struct addr addr_from_v6(const uint8_t ip[16], uint16_t port)
{
    struct addr a = {.port = port, .family = ADDR_V6};
    memcpy(a.ip, ip, 16);
    return a;
}

/* False, and *out untouched, unless sa is a complete AF_INET or AF_INET6 address. A v4-mapped
 * sockaddr_in6 stays V6: sockets here are V6ONLY, so it can only be a disguise. */
static inline bool addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t len)
{
    /* Copied out, for a sockaddr may lie anywhere in a receive buffer. */
    sa_family_t family;
    if (len < offsetof(struct sockaddr, sa_family) + sizeof(family))
        return false;
    memcpy(&family, (const char *)sa + offsetof(struct sockaddr, sa_family), sizeof(family));
    if (family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        *out = addr_from_v4((const uint8_t *)&in.sin_addr, ntohs(in.sin_port));
        return true;
    }
    if (family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        *out = addr_from_v6(in6.sin6_addr.s6_addr, ntohs(in6.sin6_port));
        out->scope = in6.sin6_scope_id;
        return true;
    }
    return false;
}

/* Fills *ss and returns its length; 0 for no address. */
static inline socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
    if (a->family == ADDR_V4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&in.sin_addr, addr_v4(a), 4);
        memcpy(ss, &in, sizeof(in));
        return sizeof(in);
    }
    if (a->family == ADDR_V6) {
        struct sockaddr_in6 in6 = {
            .sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_scope_id = a->scope};
        memcpy(&in6.sin6_addr, a->ip, 16);
        memcpy(ss, &in6, sizeof(in6));
        return sizeof(in6);
    }
    return 0;
}

/* Parses an IP literal ("192.0.2.1", "2001:db8::1"); port becomes `port`. */
bool addr_parse(struct addr *out, const char *ip, uint16_t port);

/* "192.0.2.1:80", "[2001:db8::1]:80"; returns buf, which holds ADDR_TEXT_MAX bytes. */
const char *addr_format(const struct addr *a, char *buf);

/* Same without the port, "192.0.2.1". */
const char *addr_format_ip(const struct addr *a, char *buf);

static inline bool addr_ip_equal(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, 16) == 0;
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
