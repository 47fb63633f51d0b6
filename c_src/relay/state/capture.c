#include "capture.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "clock.h"

/* All of it big endian, as the file's first block says. */
enum {
    BLOCK_STATISTICS = 5,
    BLOCK_PACKET = 6,
    OPTION_END = 0,
    OPTION_COMMENT = 1,
    OPTION_FLAGS = 2,
    OPTION_MISSED = 5, /* isb_ifdrop */
    INBOUND = 1,
    OUTBOUND = 2,

    BLOCK_HEAD = 8,                                     /* type, length */
    BLOCK_TAIL = 4,                                     /* length again */
    PACKET_HEAD = BLOCK_HEAD + 20,                      /* interface, time, lengths */
    STATISTICS = BLOCK_HEAD + 12 + 12 + 4 + BLOCK_TAIL, /* interface, time, missed, end */
    IP4_HEADER = 20,
    IP6_HEADER = 40,
    UDP_HEADER = 8,
    PROTOCOL_UDP = 17,
    HOPS = 64,
    COMMENT_MAX = 256,
    FRAME_HEAD_MAX = PACKET_HEAD + IP6_HEADER + UDP_HEADER,
    FRAME_TAIL_MAX = 4 + 4 + 4 + COMMENT_MAX + 8 + 4 + BLOCK_TAIL,
};

struct capture *capture_begin(const char *path, uint64_t bytes, uint64_t bytes_max, bool payload)
{
    struct capture *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    *c = (struct capture){
        .spool = spool_start(path), .bytes = bytes, .bytes_max = bytes_max, .payload = payload};
    if (!c->spool) {
        free(c);
        return NULL;
    }
    return c;
}

/* --------------------------------------------------------------------------------------- blocks */

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

static void put_time(struct wbytes *w)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    wbytes_put64(w, (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec);
}

static void put_padding(struct wbytes *w, size_t len)
{
    static const uint8_t zero[4];
    wbytes_put(w, zero, padded(len) - len);
}

void capture_end(struct capture *c)
{
    uint8_t block[STATISTICS];
    struct wbytes w = wbytes_of(block, sizeof(block));
    wbytes_put32(&w, BLOCK_STATISTICS);
    wbytes_put32(&w, STATISTICS);
    wbytes_put32(&w, CAPTURE_CLIENT);
    put_time(&w);
    wbytes_put16(&w, OPTION_MISSED);
    wbytes_put16(&w, 8);
    wbytes_put64(&w, c->missed);
    wbytes_put16(&w, OPTION_END);
    wbytes_put16(&w, 0);
    wbytes_put32(&w, STATISTICS);
    spool_add(c->spool, block, wbytes_len(&w)); /* capture_put has left room for it */
    spool_commit(c->spool);
    spool_end(c->spool);
    free(c);
}

/* -------------------------------------------------------------------------------------- headers */

static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += load16(p + i);
    return len % 2 ? sum + ((uint32_t)p[len - 1] << 8) : sum;
}

static uint16_t sum_end(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static size_t headers_len(const struct capture_packet *p)
{
    return (p->from->family == ADDR_V6 ? IP6_HEADER : IP4_HEADER) + UDP_HEADER;
}

static void put_ip4(struct wbytes *w, const struct capture_packet *p, size_t len)
{
    uint8_t *ip = w->p;
    wbytes_put16(w, 0x4500);
    wbytes_put16(w, (uint16_t)MIN(len + IP4_HEADER, (size_t)UINT16_MAX));
    wbytes_put32(w, 0x4000); /* not fragmented, here */
    wbytes_put8(w, HOPS);
    wbytes_put8(w, PROTOCOL_UDP);
    wbytes_put16(w, 0);
    wbytes_put(w, addr_v4(p->from), 4);
    wbytes_put(w, addr_v4(p->to), 4);
    store16(ip + 10, sum_end(sum16(0, ip, IP4_HEADER)));
}

static void put_ip6(struct wbytes *w, const struct capture_packet *p, size_t len)
{
    wbytes_put32(w, 0x60000000);
    wbytes_put16(w, (uint16_t)MIN(len, (size_t)UINT16_MAX));
    wbytes_put8(w, PROTOCOL_UDP);
    wbytes_put8(w, HOPS);
    wbytes_put(w, p->from->ip, 16);
    wbytes_put(w, p->to->ip, 16);
}

/* RFC 8200 8.1: over IPv6 it may not be missing. head_len is even. */
static uint16_t udp6_checksum(const struct capture_packet *p, size_t len)
{
    uint32_t sum = PROTOCOL_UDP + 2 * (uint32_t)len; /* once in the pseudo-header */
    sum = sum16(sum, p->from->ip, 16);
    sum = sum16(sum, p->to->ip, 16);
    sum += (uint32_t)p->from->port + p->to->port;
    sum = sum16(sum, p->head, p->head_len);
    uint16_t checksum = sum_end(sum16(sum, p->data, p->len));
    return checksum ? checksum : UINT16_MAX;
}

static void put_headers(struct wbytes *w, const struct capture_packet *p)
{
    size_t len = UDP_HEADER + p->head_len + p->len;
    if (p->from->family == ADDR_V6)
        put_ip6(w, p, len);
    else
        put_ip4(w, p, len);
    wbytes_put16(w, p->from->port);
    wbytes_put16(w, p->to->port);
    wbytes_put16(w, (uint16_t)MIN(len, (size_t)UINT16_MAX));
    wbytes_put16(w, p->from->family == ADDR_V6 ? udp6_checksum(p, len) : 0);
}

/* -------------------------------------------------------------------------------------- packets */

/* What stands behind the bytes of a packet. */
static void put_options(struct wbytes *w, const struct capture_packet *p, size_t comment)
{
    wbytes_put16(w, OPTION_COMMENT);
    wbytes_put16(w, (uint16_t)comment);
    wbytes_put(w, p->comment, comment);
    put_padding(w, comment);
    wbytes_put16(w, OPTION_FLAGS);
    wbytes_put16(w, 4);
    wbytes_put32(w, p->inbound ? INBOUND : OUTBOUND);
    wbytes_put16(w, OPTION_END);
    wbytes_put16(w, 0);
}

void capture_put(struct capture *c, const struct capture_packet *p)
{
    size_t kept = MIN(p->kept, p->len), comment = MIN(strlen(p->comment), (size_t)COMMENT_MAX);
    size_t frame = headers_len(p) + p->head_len + kept;
    size_t total = PACKET_HEAD + padded(frame) + 4 + padded(comment) + 8 + 4 + BLOCK_TAIL;
    c->full = c->full || c->bytes + total + STATISTICS > c->bytes_max;
    if (c->full)
        return;
    if (!spool_has_room(c->spool, total + STATISTICS)) {
        c->missed++;
        return;
    }
    uint8_t before[FRAME_HEAD_MAX], behind[FRAME_TAIL_MAX];
    struct wbytes w = wbytes_of(before, sizeof(before));
    wbytes_put32(&w, BLOCK_PACKET);
    wbytes_put32(&w, (uint32_t)total);
    wbytes_put32(&w, p->side);
    put_time(&w);
    wbytes_put32(&w, (uint32_t)frame);
    wbytes_put32(&w, (uint32_t)(headers_len(p) + p->head_len + p->len));
    put_headers(&w, p);
    spool_add(c->spool, before, wbytes_len(&w));
    spool_add(c->spool, p->head, p->head_len);
    spool_add(c->spool, p->data, kept);

    w = wbytes_of(behind, sizeof(behind));
    put_padding(&w, frame);
    put_options(&w, p, comment);
    wbytes_put32(&w, (uint32_t)total);
    spool_add(c->spool, behind, wbytes_len(&w));
    spool_commit(c->spool);
    c->packets++;
    c->bytes += total;
}
