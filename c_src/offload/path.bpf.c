/*
 * The relay's path inside the kernel: a packet for which there is an entry leaves as the entry
 * says; every other goes up to the sockets as it came. Nothing is decided here: what is not exactly
 * as an entry has it, or looks odd in any way, goes up, before a byte of it was changed
 * (docs/design/offload.md).
 *
 * One source for XDP and for TC: look() finds out whether the packet may go, and is the same for
 * both; what differs is how room is made and who knows the next hop.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "entry.h"

#define INLINE static __always_inline

enum {
    CHANNEL_HEADER = 4,
    FRAGMENT = 0x3fff, /* more fragments, or an offset */
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, OFFLOAD_ENTRIES);
    __type(key, struct offload_key);
    __type(value, struct offload_place);
} places SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, OFFLOAD_ENTRIES);
    __type(key, __u32);
    __type(value, struct offload_entry);
} entries SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, OFFLOAD_WORKERS);
    __type(key, __u32);
    __type(value, struct offload_governor);
} governors SEC(".maps");

/* What changes in the sum of UDP: addresses and ports, the length (which counts twice), and the
 * header of ChannelData. An IPv4 address in 16 bytes has the sum of its four: ffff is zero there.
 */
struct summed {
    __u8 source[16], target[16];
    __u16 source_port, target_port;
    __u16 len, len_again;
    __u16 channel, channel_len;
};

/* A packet that may go. */
struct plan {
    struct offload_entry *entry;
    __u32 payload;  /* bytes of it */
    __u16 sum;      /* of UDP, as it leaves */
    __u8 family_in; /* 4 or 6 */
    __u8 grows;     /* it gets a header of ChannelData; else it loses one */
};

/* Headers as they came. */
struct seen {
    struct offload_key key;
    __u32 udp_len;
    __u16 sum;
    __u8 start[CHANNEL_HEADER]; /* of the payload */
    __u8 started;               /* there are so many */
};

INLINE __u16 fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u16)sum;
}

INLINE void map_v4(__u8 to[16], __u32 ip)
{
    __u32 *words = (__u32 *)to;
    words[0] = words[1] = 0;
    words[2] = bpf_htonl(0xffff);
    words[3] = ip;
}

/* ------------------------------------------------------------------------------ is it as it must
 */

/* The IP header of a plain datagram of UDP: no options, no fragment, its length that of the frame.
 * Where UDP begins, or NULL. */
INLINE struct udphdr *read_v4(void *at, void *end, __u32 len, struct seen *s)
{
    struct iphdr *ip = at;
    if ((void *)(ip + 1) > end || *(__u8 *)at != 0x45 || ip->protocol != IPPROTO_UDP ||
        ip->frag_off & bpf_htons(FRAGMENT) || bpf_ntohs(ip->tot_len) != len ||
        fold((__u64)bpf_csum_diff(0, 0, at, sizeof(*ip), 0)) != 0xffff)
        return 0;
    map_v4(s->key.source, ip->saddr);
    map_v4(s->key.target, ip->daddr);
    s->key.family = 4;
    s->udp_len = len - sizeof(*ip);
    return (void *)(ip + 1);
}

INLINE struct udphdr *read_v6(void *at, void *end, __u32 len, struct seen *s)
{
    struct ipv6hdr *ip = at;
    if ((void *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP ||
        bpf_ntohs(ip->payload_len) + sizeof(*ip) != len)
        return 0;
    __builtin_memcpy(s->key.source, &ip->saddr, 16);
    __builtin_memcpy(s->key.target, &ip->daddr, 16);
    s->key.family = 6;
    s->udp_len = len - sizeof(*ip);
    return (void *)(ip + 1);
}

/* A sum of 0 says that there is none, where the sockets' way would make one. And what another
 * program of this machine sends has as sum that of the addresses alone, until a device completes
 * it: nothing here could tell that from a whole one, so whatever looks like it goes up. */
INLINE int is_summed(const struct seen *s)
{
    __u64 pseudo = (__u32)bpf_csum_diff(0, 0, (__be32 *)(void *)s->key.source, 32, 0);
    pseudo += bpf_htons((__u16)s->udp_len) + bpf_htons(IPPROTO_UDP);
    return s->sum != 0 && fold(pseudo) != s->sum;
}

/* False where it is no datagram of UDP, or not a plain one. len: of the frame. */
INLINE int read_headers(void *data, void *end, __u32 len, struct seen *s)
{
    struct ethhdr *eth = data;
    struct udphdr *udp;
    if ((void *)(eth + 1) > end)
        return 0;
    len -= sizeof(*eth);
    if (eth->h_proto == bpf_htons(ETH_P_IP))
        udp = read_v4(eth + 1, end, len, s);
    else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
        udp = read_v6(eth + 1, end, len, s);
    else
        return 0;
    if (!udp || (void *)(udp + 1) > end || s->udp_len < sizeof(*udp) ||
        bpf_ntohs(udp->len) != s->udp_len)
        return 0;
    s->key.source_port = udp->source;
    s->key.target_port = udp->dest;
    s->sum = udp->check;
    s->started = (void *)(udp + 1) + CHANNEL_HEADER <= end;
    if (s->started)
        __builtin_memcpy(s->start, udp + 1, CHANNEL_HEADER);
    return is_summed(s);
}

/* ------------------------------------------------------------------------------- is there an entry
 */

INLINE struct offload_entry *find(const struct offload_key *key)
{
    struct offload_place *place = bpf_map_lookup_elem(&places, key);
    struct offload_entry *e = place ? bpf_map_lookup_elem(&entries, &place->index) : 0;
    return e && e->number == place->number ? e : 0;
}

/* Of a client's packet on a channel, else of a peer's. A peer's may begin like ChannelData. */
INLINE struct offload_entry *find_entry(struct seen *s, struct plan *p)
{
    p->grows = 0;
    if (s->started && s->start[0] >> 6 == 1) {
        __builtin_memcpy(&s->key.channel, s->start, 2);
        p->entry = find(&s->key);
        if (p->entry)
            return p->entry;
        s->key.channel = 0;
    }
    p->grows = 1;
    return p->entry = find(&s->key);
}

/* The entry's own end, its worker's word, and that one packet now and then goes up. */
INLINE int holds(struct offload_entry *e)
{
    __u64 now = bpf_ktime_get_ns();
    __u32 worker = e->worker;
    struct offload_governor *g = bpf_map_lookup_elem(&governors, &worker);
    if (!g || now >= e->until || now >= g->until || e->epoch != g->epoch)
        return 0;
    if (now < e->up_next)
        return 1;
    e->up_next = now + OFFLOAD_UP_NS;
    return 0;
}

/* How many bytes of payload, or none at all (-1): the header of ChannelData must say what UDP says,
 * without padding behind it. */
INLINE int payload_of(const struct seen *s, const struct plan *p)
{
    int len = (int)s->udp_len - (int)sizeof(struct udphdr);
    if (p->grows)
        return len;
    len -= CHANNEL_HEADER;
    return len == (s->start[2] << 8 | s->start[3]) ? len : -1;
}

INLINE __u32 ip_header(__u8 family)
{
    return family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

INLINE __u32 udp_len_of(const struct plan *p)
{
    return sizeof(struct udphdr) + (p->grows ? CHANNEL_HEADER : 0) + p->payload;
}

/* RFC 1624: from the sum that came, so that one that was wrong stays wrong. */
INLINE __u16 new_sum(const struct seen *s, const struct plan *p)
{
    const struct offload_entry *e = p->entry;
    struct summed from = {.source_port = s->key.source_port, .target_port = s->key.target_port};
    struct summed to = {.source_port = e->source_port, .target_port = e->target_port};
    __builtin_memcpy(from.source, s->key.source, 32);
    __builtin_memcpy(to.source, e->source, 32);
    from.len = from.len_again = bpf_htons((__u16)s->udp_len);
    to.len = to.len_again = bpf_htons((__u16)udp_len_of(p));
    from.channel = s->key.channel;
    from.channel_len = s->key.channel ? bpf_htons((__u16)p->payload) : 0;
    to.channel = e->channel;
    to.channel_len = e->channel ? bpf_htons((__u16)p->payload) : 0;
    __u16 sum = ~fold((__u32)bpf_csum_diff((__be32 *)(void *)&from, sizeof(from),
                                           (__be32 *)(void *)&to, sizeof(to), (__u16)~s->sum));
    return sum ? sum : 0xffff;
}

/* May it go? Nothing is changed yet. */
INLINE int look(void *data, void *end, __u32 len, struct plan *p)
{
    struct seen s = {};
    if (!read_headers(data, end, len, &s) || !find_entry(&s, p) || !holds(p->entry))
        return 0;
    int payload = payload_of(&s, p);
    if (payload < 0)
        return 0;
    p->payload = (__u32)payload;
    p->family_in = (__u8)s.key.family;
    if (ip_header(p->entry->family) + udp_len_of(p) > p->entry->mtu)
        return 0;
    p->sum = new_sum(&s, p);
    return 1;
}

/* ------------------------------------------------------------------------------------ as it leaves
 */

/* As a socket of ours would send it: nothing of the headers that came goes on. */
INLINE void write_v4(struct iphdr *ip, const struct plan *p)
{
    const struct offload_entry *e = p->entry;
    *(__u16 *)ip = bpf_htons(0x4500);
    ip->tot_len = bpf_htons((__u16)(sizeof(*ip) + udp_len_of(p)));
    ip->id = (__u16)bpf_get_prandom_u32();
    ip->frag_off = 0;
    ip->ttl = e->hops;
    ip->protocol = IPPROTO_UDP;
    ip->check = 0;
    __builtin_memcpy(&ip->saddr, e->source + 12, 4);
    __builtin_memcpy(&ip->daddr, e->target + 12, 4);
    ip->check = ~fold((__u32)bpf_csum_diff(0, 0, (__be32 *)(void *)ip, sizeof(*ip), 0));
}

INLINE void write_v6(struct ipv6hdr *ip, const struct plan *p)
{
    const struct offload_entry *e = p->entry;
    *(__u32 *)ip = bpf_htonl(6u << 28);
    ip->payload_len = bpf_htons((__u16)udp_len_of(p));
    ip->nexthdr = IPPROTO_UDP;
    ip->hop_limit = e->hops;
    __builtin_memcpy(&ip->saddr, e->source, 16);
    __builtin_memcpy(&ip->daddr, e->target, 16);
}

INLINE int write_udp(struct udphdr *udp, void *end, const struct plan *p)
{
    const struct offload_entry *e = p->entry;
    __u16 *channel = (__u16 *)(udp + 1);
    if ((void *)(udp + 1) > end)
        return 0;
    udp->source = e->source_port;
    udp->dest = e->target_port;
    udp->len = bpf_htons((__u16)udp_len_of(p));
    udp->check = p->sum;
    if (!p->grows)
        return 1;
    if ((void *)(channel + 2) > end)
        return 0;
    channel[0] = e->channel;
    channel[1] = bpf_htons((__u16)p->payload);
    return 1;
}

/* All from IP on; room was made. */
INLINE int write_headers(void *ip, void *end, const struct plan *p)
{
    if (p->entry->family == 4) {
        if (ip + sizeof(struct iphdr) > end)
            return 0;
        write_v4(ip, p);
        return write_udp(ip + sizeof(struct iphdr), end, p);
    }
    if (ip + sizeof(struct ipv6hdr) > end)
        return 0;
    write_v6(ip, p);
    return write_udp(ip + sizeof(struct ipv6hdr), end, p);
}

INLINE void count(const struct plan *p)
{
    __sync_fetch_and_add(&p->entry->packets, 1);
    __sync_fetch_and_add(&p->entry->bytes, p->payload);
}

/* By how many bytes the headers become longer. */
INLINE int growth(const struct plan *p)
{
    int ip = (int)ip_header(p->entry->family) - (int)ip_header(p->family_in);
    return ip + (p->grows ? CHANNEL_HEADER : -CHANNEL_HEADER);
}

/* -------------------------------------------------------------------------------------------- XDP
 */

/* It leaves by the interface it came by, to whom the relay found to be next. Where that is another
 * interface the packet goes up: not every driver takes packets from others, and those that do not
 * lose them without a word. A tag of a VLAN may have been taken off by the device; the route then
 * names another interface as well. */
INLINE int leaves_here(const struct xdp_md *ctx, const void *data, const struct offload_entry *e)
{
    const struct ethhdr *eth = data;
    __u32 other = 0;
    for (int i = 0; i < ETH_ALEN; i++)
        other |= eth->h_dest[i] ^ e->from_mac[i];
    return e->interface == ctx->ingress_ifindex && !other;
}

SEC("xdp")
int meerkat_xdp(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct plan p;
    if (!look(data, end, (__u32)(end - data), &p) || data + ETH_HLEN > end ||
        !leaves_here(ctx, data, p.entry) || bpf_xdp_adjust_head(ctx, -growth(&p)) != 0)
        return XDP_PASS;
    data = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    struct ethhdr *eth = data;
    if ((void *)(eth + 1) > end)
        return XDP_ABORTED; /* there was more before */
    __builtin_memcpy(eth->h_dest, p.entry->to_mac, 6);
    __builtin_memcpy(eth->h_source, p.entry->from_mac, 6);
    eth->h_proto = p.entry->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
    if (!write_headers(eth + 1, end, &p))
        return XDP_ABORTED;
    count(&p);
    return XDP_TX;
}

/* --------------------------------------------------------------------------------------------- TC
 */

/* All headers there may be, and what begins the payload. */
enum { HEADERS_MAX = ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct udphdr) + CHANNEL_HEADER };

/* Room for the headers as they will be. What fails first has changed nothing. */
INLINE int make_room(struct __sk_buff *skb, const struct plan *p)
{
    if (bpf_skb_adjust_room(skb, p->grows ? CHANNEL_HEADER : -CHANNEL_HEADER, BPF_ADJ_ROOM_NET,
                            0) != 0)
        return TC_ACT_OK;
    if (p->entry->family == p->family_in)
        return TC_ACT_REDIRECT;
    __be16 proto = p->entry->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
    return bpf_skb_change_proto(skb, proto, 0) == 0 ? TC_ACT_REDIRECT : TC_ACT_SHOT;
}

/* Whole datagrams for this host and no other: what the kernel has joined (GRO) goes up, where the
 * sockets take it in one piece; a tag of a VLAN is not in the bytes. */
SEC("tc")
int meerkat_tc(struct __sk_buff *skb)
{
    struct plan p;
    __u32 want = skb->len < HEADERS_MAX ? skb->len : HEADERS_MAX;
    if (skb->pkt_type != PACKET_HOST || skb->gso_size || skb->vlan_present ||
        ((void *)(long)skb->data + want > (void *)(long)skb->data_end &&
         bpf_skb_pull_data(skb, want) != 0) ||
        !look((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, &p))
        return TC_ACT_OK;
    int verdict = make_room(skb, &p);
    if (verdict != TC_ACT_REDIRECT)
        return verdict; /* the second: no memory, as it may be on the way of sockets */
    if (bpf_skb_pull_data(skb, 0) != 0)
        return TC_ACT_SHOT;
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    if (!write_headers(data + ETH_HLEN, end, &p))
        return TC_ACT_SHOT;
    count(&p);
    return (int)bpf_redirect_neigh(p.entry->interface, 0, 0, 0);
}

char terms[] SEC("license") = "Apache-2.0";
