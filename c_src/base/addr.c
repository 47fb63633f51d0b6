/*
 * Transport addresses: from and to the wire, the kernel and text. See addr.h.
 * Opens nothing and resolves nothing: names of hosts and interfaces are unknown here.
 */
#include "addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct addr addr_from_v4(const uint8_t ip[4], uint16_t port)
{
    struct addr a = {.port = port, .family = ADDR_V4};
    memcpy(a.ip, v4_mapped, 12);
    memcpy(a.ip + 12, ip, 4);
    return a;
}

struct addr addr_from_v6(const uint8_t ip[16], uint16_t port)
{
    struct addr a = {.port = port, .family = ADDR_V6};
    memcpy(a.ip, ip, 16);
    return a;
}

bool addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t len)
{
    /* Copied out, for a sockaddr may lie anywhere in a receive buffer. */
    sa_family_t family;
    if (len < offsetof(struct sockaddr, sa_family) + sizeof(family))
        return false;
    memcpy(&family, (const char *)sa + offsetof(struct sockaddr, sa_family), sizeof(family));
    if (family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        uint8_t ip[4];
        memcpy(ip, &in.sin_addr, 4);
        *out = addr_from_v4(ip, ntohs(in.sin_port));
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

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
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

/* "%" and a decimal interface number behind an IPv6 literal; names would need the kernel. */
static bool parse_scope(const char *text, uint32_t *scope)
{
    uint64_t v = 0;
    if (*text == '\0')
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        v = v * 10 + (uint64_t)(*text - '0');
        if (v > UINT32_MAX)
            return false;
    }
    *scope = (uint32_t)v;
    return true;
}

bool addr_parse(struct addr *out, const char *ip, uint16_t port)
{
    uint8_t raw[16];
    if (inet_pton(AF_INET, ip, raw) == 1) {
        *out = addr_from_v4(raw, port);
        return true;
    }
    char text[INET6_ADDRSTRLEN];
    const char *percent = strchr(ip, '%');
    size_t len = percent ? (size_t)(percent - ip) : strlen(ip);
    uint32_t scope = 0;
    if (len >= sizeof(text))
        return false;
    memcpy(text, ip, len);
    text[len] = '\0';
    if (percent && !parse_scope(percent + 1, &scope))
        return false;
    if (inet_pton(AF_INET6, text, raw) != 1)
        return false;
    *out = addr_from_v6(raw, port);
    out->scope = scope;
    return true;
}

const char *addr_format_ip(const struct addr *a, char *buf)
{
    buf[0] = '-';
    buf[1] = '\0';
    if (a->family == ADDR_V4)
        inet_ntop(AF_INET, addr_v4(a), buf, ADDR_TEXT_MAX);
    if (a->family == ADDR_V6) {
        inet_ntop(AF_INET6, a->ip, buf, ADDR_TEXT_MAX);
        size_t len = strlen(buf);
        if (a->scope)
            snprintf(buf + len, ADDR_TEXT_MAX - len, "%%%u", a->scope);
    }
    return buf;
}

const char *addr_format(const struct addr *a, char *buf)
{
    char ip[ADDR_TEXT_MAX];
    addr_format_ip(a, ip);
    if (a->family == ADDR_NONE)
        snprintf(buf, ADDR_TEXT_MAX, "-");
    else if (a->family == ADDR_V4)
        snprintf(buf, ADDR_TEXT_MAX, "%.15s:%u", ip, a->port);
    else
        snprintf(buf, ADDR_TEXT_MAX, "[%.55s]:%u", ip, a->port);
    return buf;
}

bool addr_is_any(const struct addr *a)
{
    static const uint8_t zero[16];
    if (a->family == ADDR_V4)
        return memcmp(addr_v4(a), zero, 4) == 0;
    return a->family == ADDR_V6 && memcmp(a->ip, zero, 16) == 0;
}

bool addr_in_prefix(const uint8_t ip[16], const uint8_t prefix[16], unsigned bits)
{
    unsigned whole = MIN(bits, 128u) / 8;
    unsigned rest = MIN(bits, 128u) % 8;
    if (memcmp(ip, prefix, whole) != 0)
        return false;
    return rest == 0 || ((ip[whole] ^ prefix[whole]) >> (8 - rest)) == 0;
}
