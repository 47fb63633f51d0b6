/*
 * As proxy-protocol.txt of HAProxy has it. Version 1 is a line of text, version 2 is binary with
 * TLVs behind the addresses, of which only the checksum is looked at.
 */
#include "proxy.h"

#include "bytes.h"
#include "crypto.h"

enum {
    LINE_MAX = 107, /* of version 1, with its end */
    FIXED_LEN = 16, /* of version 2, before the addresses */
    FIELD_LEN = 40, /* holds any address or port of version 1 */
    COMMAND_LOCAL = 0x20,
    COMMAND_PROXY = 0x21,
    FAMILY_V4 = 1,
    FAMILY_V6 = 2,
    STREAM = 1,
    DATAGRAM = 2,
    TLV_CRC32C = 3,
    CRC_LEN = 4,
};

static const char word[] = "PROXY ";
static const uint8_t signature[] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                    '\n', 'Q',  'U',  'I',  'T', '\n'};

/* Dual-stack proxies tell IPv4 clients as IPv6; here they are what they are, or all of them would
 * share one /64. */
static struct addr plain(const struct addr *a)
{
    struct addr probe = addr_from_v4(addr_v4(a), a->port);
    return a->family == ADDR_V6 && memcmp(probe.ip, a->ip, 12) == 0 ? probe : *a;
}

static bool announce(struct proxy_header *h, const struct addr *client, const struct addr *server)
{
    h->announces = true;
    h->client = plain(client);
    h->server = plain(server);
    return client->port != 0;
}

/* Do the bytes there are agree with what is expected? */
static bool agrees(const uint8_t *data, size_t len, const void *expected, size_t expected_len)
{
    return memcmp(data, expected, MIN(len, expected_len)) == 0;
}

/* ----------------------------------------------------------------------------------- version 1 */

/* The text up to the next space, or to the end of the line. */
static bool take_field(struct bytes *line, char out[FIELD_LEN])
{
    const uint8_t *space = memchr(line->p, ' ', bytes_left(line));
    size_t len = space ? (size_t)(space - line->p) : bytes_left(line);
    if (len == 0 || len >= FIELD_LEN)
        return false;
    memcpy(out, line->p, len);
    out[len] = '\0';
    line->p += len + (space ? 1 : 0);
    return memchr(out, '\0', len) == NULL;
}

static bool take_ip(struct bytes *line, enum addr_family family, struct addr *out)
{
    char text[FIELD_LEN];
    return take_field(line, text) && !strchr(text, '%') && addr_parse(out, text, 0) &&
           out->family == family;
}

static bool take_port(struct bytes *line, uint16_t *out)
{
    char text[FIELD_LEN];
    uint32_t v = 0;
    if (!take_field(line, text) || (text[0] == '0' && text[1]))
        return false;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return false;
        v = v * 10 + (uint32_t)(*p - '0');
        if (v > UINT16_MAX)
            return false;
    }
    *out = (uint16_t)v;
    return true;
}

/* What stands between the word and the end of the line. */
static bool read_line(struct bytes line, struct proxy_header *out)
{
    char protocol[FIELD_LEN];
    struct addr client, server;
    if (!take_field(&line, protocol))
        return false;
    if (strcmp(protocol, "UNKNOWN") == 0)
        return true;
    enum addr_family family = strcmp(protocol, "TCP4") == 0   ? ADDR_V4
                              : strcmp(protocol, "TCP6") == 0 ? ADDR_V6
                                                              : ADDR_NONE;
    return family != ADDR_NONE && take_ip(&line, family, &client) &&
           take_ip(&line, family, &server) && take_port(&line, &client.port) &&
           bytes_left(&line) > 0 && take_port(&line, &server.port) && bytes_left(&line) == 0 &&
           line.end[-1] != ' ' && announce(out, &client, &server);
}

static enum proxy_result read_text(const uint8_t *data, size_t len, struct proxy_header *out)
{
    const size_t skip = sizeof(word) - 1, there = MIN(len, (size_t)LINE_MAX);
    const uint8_t *end = memchr(data, '\n', there);
    if (!end)
        return len < LINE_MAX ? PROXY_MORE : PROXY_BAD;
    if (end[-1] != '\r')
        return PROXY_BAD;
    out->len = (size_t)(end + 1 - data);
    struct bytes line = bytes_of(data + skip, out->len - skip - 2);
    return read_line(line, out) ? PROXY_WHOLE : PROXY_BAD;
}

/* ----------------------------------------------------------------------------------- version 2 */

/* The checksum is made with its own bytes zero. */
static bool is_sum(const uint8_t *header, size_t len, const uint8_t *sum)
{
    static const uint8_t zeros[CRC_LEN];
    size_t before = (size_t)(sum - header);
    uint32_t crc = crypto_crc32c(0, header, before);
    crc = crypto_crc32c(crc, zeros, CRC_LEN);
    crc = crypto_crc32c(crc, sum + CRC_LEN, len - before - CRC_LEN);
    return crc == load32(sum);
}

/* What is behind the addresses: each must be whole, and a checksum right. */
static bool check_tlvs(const uint8_t *header, size_t len, struct bytes tlvs)
{
    uint8_t type;
    uint16_t size;
    const uint8_t *value;
    while (bytes_left(&tlvs) > 0) {
        if (!bytes_get8(&tlvs, &type) || !bytes_get16(&tlvs, &size) ||
            !bytes_take(&tlvs, size, &value))
            return false;
        if (type == TLV_CRC32C && (size != CRC_LEN || !is_sum(header, len, value)))
            return false;
    }
    return true;
}

static bool take_raw(struct bytes *b, uint8_t family, struct addr *out)
{
    const uint8_t *ip;
    if (!bytes_take(b, family == FAMILY_V4 ? 4 : 16, &ip))
        return false;
    *out = family == FAMILY_V4 ? addr_from_v4(ip, 0) : addr_from_v6(ip, 0);
    return true;
}

static bool read_addresses(uint8_t family, struct bytes *b, struct proxy_header *out)
{
    struct addr client, server;
    return take_raw(b, family, &client) && take_raw(b, family, &server) &&
           bytes_get16(b, &client.port) && bytes_get16(b, &server.port) &&
           announce(out, &client, &server);
}

/* All of it is there. */
static bool read_whole(const uint8_t *data, struct proxy_header *out)
{
    uint8_t command = data[12], family = data[13] >> 4, protocol = data[13] & 15;
    struct bytes b = bytes_of(data + FIXED_LEN, out->len - FIXED_LEN);
    bool known = (family == FAMILY_V4 || family == FAMILY_V6) &&
                 (protocol == STREAM || protocol == DATAGRAM);
    if (command == COMMAND_PROXY && known)
        return read_addresses(family, &b, out) && check_tlvs(data, out->len, b);
    /* What there is of addresses is of no use, and of no known length. */
    return command == COMMAND_LOCAL || command == COMMAND_PROXY;
}

static enum proxy_result read_binary(const uint8_t *data, size_t len, struct proxy_header *out)
{
    if (len < FIXED_LEN)
        return PROXY_MORE;
    out->len = FIXED_LEN + (size_t)load16(data + 14);
    if (out->len > PROXY_HEADER_MAX || data[12] >> 4 != 2)
        return PROXY_BAD;
    if (out->len > len)
        return PROXY_MORE;
    return read_whole(data, out) ? PROXY_WHOLE : PROXY_BAD;
}

/* -------------------------------------------------------------------------------------- reading */

enum proxy_result proxy_read(const uint8_t *data, size_t len, struct proxy_header *out)
{
    *out = (struct proxy_header){0};
    if (agrees(data, len, signature, sizeof(signature)))
        return read_binary(data, len, out);
    if (agrees(data, len, word, sizeof(word) - 1))
        return read_text(data, len, out);
    return PROXY_BAD;
}

bool proxy_read_datagram(const uint8_t *data, size_t len, struct proxy_header *out)
{
    *out = (struct proxy_header){0};
    return agrees(data, len, signature, sizeof(signature)) &&
           read_binary(data, len, out) == PROXY_WHOLE;
}

bool proxy_seems(const uint8_t *data, size_t len)
{
    return (len >= sizeof(signature) && agrees(data, len, signature, sizeof(signature))) ||
           (len >= sizeof(word) - 1 && agrees(data, len, word, sizeof(word) - 1));
}

/* -------------------------------------------------------------------------------------- writing */

size_t proxy_build(uint8_t out[PROXY_BUILT_MAX], const struct addr *client,
                   const struct addr *server)
{
    bool v4 = client->family == ADDR_V4 && server->family == ADDR_V4;
    size_t ip_len = v4 ? 4 : 16; /* of two families, IPv4 is told as IPv6 */
    uint8_t *ips = out + FIXED_LEN, *ports = ips + 2 * ip_len;
    memcpy(out, signature, sizeof(signature));
    out[12] = COMMAND_PROXY;
    out[13] = (v4 ? FAMILY_V4 : FAMILY_V6) << 4 | STREAM;
    store16(out + 14, (uint16_t)(2 * ip_len + 4));
    memcpy(ips, client->ip + 16 - ip_len, ip_len);
    memcpy(ips + ip_len, server->ip + 16 - ip_len, ip_len);
    store16(ports, client->port);
    store16(ports + 2, server->port);
    return (size_t)(ports + 4 - out);
}
