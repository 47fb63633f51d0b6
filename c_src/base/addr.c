/*
 * Transport addresses: from and to the wire, the kernel and text. See addr.h.
 * Opens nothing and resolves nothing: names of hosts and interfaces are unknown here.
 */
#include "addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

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
