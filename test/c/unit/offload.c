/*
 * The kernel's own path against the sockets' way: frames are run through the program that the relay
 * loads (BPF_PROG_TEST_RUN), by entries that a worker has made, and what comes out is held against
 * what that worker sends of the same packet. Needs root, for a network of its own and for BPF; it
 * says so where that is refused, and what it does not show then.
 */
#include <sched.h>

#include "alloc.h"
#include "bytes.h"
#include "hop.h"
#include "offloading.h"
#include "worker_kit.h"

enum { FRAME_MAX = 2048, ETH = 14, GOES_UP_XDP = 2, GOES_UP_TC = 0, LEAVES_XDP = 3, LEAVES_TC = 7 };
enum { CHANNEL = 0x4001, PEER_PORT = 7000, ROUNDS = 20000 };

static struct offload *kernel;
static enum offload_way way;
static struct session *s;
static struct addr peer_v6;
static uint32_t seed = 1;

/* Repeats with the seed. */
static uint32_t pick(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 4) * n >> 28);
}

/* -------------------------------------------------------------------------------------- a frame */

struct frame {
    uint32_t len;
    uint8_t bytes[FRAME_MAX];
};

static uint32_t sum_of(const uint8_t *data, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
    return sum;
}

static uint16_t folded(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint16_t udp_sum(const struct addr *from, const struct addr *to, const uint8_t *udp,
                        size_t len)
{
    uint32_t sum = sum_of(from->ip, 16, 0);
    sum = sum_of(to->ip, 16, sum) + (uint32_t)len + 17;
    return folded(sum_of(udp, len, sum));
}

/* A whole and correct one. Addresses of the link are those of the loopback interface, which is
 * where such runs come in. */
static void frame_make(struct frame *f, const struct addr *from, const struct addr *to,
                       const uint8_t *payload, size_t len)
{
    bool v4 = from->family == ADDR_V4;
    size_t ip = v4 ? 20 : 40, udp_len = 8 + len;
    uint8_t *at = f->bytes + ETH, *udp = at + ip;
    memset(f->bytes, 0, ETH + ip + 8);
    store16(f->bytes + 12, v4 ? 0x0800 : 0x86dd);
    if (v4) {
        store16(at, 0x4500);
        store16(at + 2, (uint16_t)(ip + udp_len));
        store16(at + 4, (uint16_t)pick(65536));
        at[8] = 61;
        at[9] = 17;
        memcpy(at + 12, addr_v4(from), 4);
        memcpy(at + 16, addr_v4(to), 4);
        store16(at + 10, (uint16_t)~folded(sum_of(at, 20, 0)));
    } else {
        at[0] = 0x60;
        store16(at + 4, (uint16_t)udp_len);
        at[6] = 17;
        at[7] = 61;
        memcpy(at + 8, from->ip, 16);
        memcpy(at + 24, to->ip, 16);
    }
    store16(udp, from->port);
    store16(udp + 2, to->port);
    store16(udp + 4, (uint16_t)udp_len);
    memcpy(udp + 8, payload, len);
    uint16_t sum = (uint16_t)~udp_sum(from, to, udp, udp_len);
    store16(udp + 6, sum ? sum : 0xffff);
    f->len = (uint32_t)(ETH + ip + udp_len);
}

/* All of it but the number of an IPv4 datagram, which is drawn. */
static void check_equal(struct frame *got, const struct frame *want)
{
    if (want->bytes[12] == 0x08) {
        memcpy(got->bytes + ETH + 4, want->bytes + ETH + 4, 2);
        memcpy(got->bytes + ETH + 10, want->bytes + ETH + 10, 2);
    }
    CHECK_BYTES(got->bytes + 12, got->len - 12, want->bytes + 12, want->len - 12);
}

static bool ip_sum_is_right(const struct frame *f)
{
    return f->bytes[12] != 0x08 || folded(sum_of(f->bytes + ETH, 20, 0)) == 0xffff;
}

/* Through the program. Does it leave? Else it is as it came. */
static bool run(struct frame *f)
{
    struct frame before = *f;
    uint32_t verdict = 0;
    CHECK_EQ(offload_try(kernel, f->bytes, &f->len, FRAME_MAX, &verdict), 0);
    bool leaves = verdict == (way == OFFLOAD_XDP ? LEAVES_XDP : LEAVES_TC);
    if (!leaves) {
        CHECK_EQ(verdict, way == OFFLOAD_XDP ? GOES_UP_XDP : GOES_UP_TC);
        CHECK_BYTES(f->bytes, f->len, before.bytes, before.len);
    } else if (way == OFFLOAD_TC) { /* the kernel writes the header of the link when it sends it */
        store16(f->bytes + 12, f->bytes[ETH] >> 4 == 4 ? 0x0800 : 0x86dd);
    }
    return leaves;
}

/* ------------------------------------------------------------------------------------- a worker */

/* As the sockets' way relays it. */
static bool by_socket(const struct addr *from, const struct addr *at, const uint8_t *payload,
                      size_t len, struct frame *out)
{
    bool from_client = at->port == k.server.port;
    if (from_client)
        kit_from_client(&k, payload, len);
    else
        kit_from_peer(&k, &s->relayed[from->family == ADDR_V6], from, payload, len);
    if (!took(&sent))
        return false;
    struct addr sender = k.server;
    if (from_client)
        sender = relayed_local(&s->relayed[sent.to.family == ADDR_V6]);
    frame_make(out, &sender, &sent.to, sent.data, sent.len);
    return true;
}

/* XDP takes only what leaves by the interface it came by, and that is the loopback one here. */
static void come_in_by_loopback(void)
{
    for (struct offloaded *o = s->offloaded; o && way == OFFLOAD_XDP; o = o->next) {
        o->entry->interface = 1;
        memset(o->entry->from_mac, 0, 6);
    }
}

/* The kernel's clock is the machine's: the worker's is not to be behind it. */
static void keep_up(void)
{
    uint64_t now = clock_read().now, ours = k.worker.shard.time.now;
    kit_turn(&k, now > ours ? (now - ours) / NS_PER_MS + 1 : 0);
    if (s)
        come_in_by_loopback();
}

static void speak(size_t packets)
{
    for (size_t i = 0; i < packets; i++) {
        kit_from_client(&k, buf, channel_data(buf, CHANNEL, "voice"));
        kit_from_client(&k, buf, channel_data(buf, CHANNEL + 1, "voice"));
        while (took(&sent))
            ;
    }
}

/* A client with a channel to a peer of each family, both hot. */
static void start_worker(void)
{
    kit_home = "192.0.2.1";
    kit_start(&k);
    struct shard *sh = &k.worker.shard;
    sh->config.offload = kernel;
    sh->offloading.hops = hop_open();
    CHECK(offloads_init(&sh->sessions.offloads, kernel, 0, 1));
    keep_up();
    kit_policy(&k, NULL, 0);
    s = kit_allocate(&k, ID, true, true, 600000);
    s->user = &k.users[1]; /* as every allocation has one, mostly without a limit */
    session_set_detour(s);
    CHECK(s && addr_parse(&peer_v6, "2001:db8:1::7", PEER_PORT));
    CHECK_EQ(kit_channel(&k, ID, CHANNEL, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, CHANNEL + 1, &peer_v6, 600000, 300000), CTL_OK);
    kit_turn(&k, 1000);
    speak(50);
    kit_turn(&k, 1000);
    come_in_by_loopback();
}

static unsigned entries(void)
{
    unsigned n = 0;
    for (const struct offloaded *o = s->offloaded; o; o = o->next)
        n += !offloaded_is_void(o);
    return n;
}

/* ------------------------------------------------------------------------------------- the tests
 */

static void hot_channels_have_entries(void)
{
    CHECK_EQ(entries(), 4);
    CHECK_EQ(kit_count(&k, CTR_offload_entries), 4);
}

static size_t random_payload(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)pick(256);
    return len;
}

static const struct addr *peer_of(bool v6)
{
    return v6 ? &peer_v6 : &k.peer;
}

static struct addr relayed_of(bool v6)
{
    return relayed_local(&s->relayed[v6]);
}

/* What the sockets would send of it, byte for byte. */
static void same(const struct addr *from, const struct addr *at, const uint8_t *payload, size_t len)
{
    struct frame got, want;
    frame_make(&got, from, at, payload, len);
    CHECK(run(&got));
    CHECK(ip_sum_is_right(&got));
    CHECK(by_socket(from, at, payload, len, &want));
    want.bytes[ETH + (want.bytes[12] == 0x08 ? 8 : 7)] =
        got.bytes[ETH + (want.bytes[12] == 0x08 ? 8 : 7)];
    check_equal(&got, &want);
}

static void leaves_as_by_sockets(void)
{
    static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 159, 160, 161, 1199, 1200, 1400};
    uint8_t payload[1500];
    for (unsigned v6 = 0; v6 < 2; v6++)
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
            size_t len = random_payload(payload + 4, lengths[i]);
            struct addr relayed = relayed_of(v6);
            channel_put_header(payload + 4, (uint16_t)(CHANNEL + v6), len);
            same(&k.client, &k.server, payload, len + 4);
            same(peer_of(v6), &relayed, payload + 4, len);
        }
}

static void peers_may_say_what_looks_like_channel_data(void)
{
    uint8_t payload[64];
    struct addr relayed = relayed_of(false);
    channel_put_header(payload + 4, CHANNEL, 32);
    random_payload(payload + 4, 32);
    same(&k.peer, &relayed, payload, 36);
}

/* Frames that differ from a good one somewhere: whatever leaves is what a socket would have sent of
 * it, and what no socket would have got does not leave. */
static void nothing_leaves_that_is_odd(void)
{
    uint8_t payload[256];
    unsigned left = 0, up = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool v6 = pick(2), from_client = pick(2);
        size_t len = random_payload(payload + 4, pick(200));
        struct addr relayed = relayed_of(v6), from = from_client ? k.client : *peer_of(v6);
        struct addr at = from_client ? k.server : relayed;
        struct frame good, odd, again;
        channel_put_header(payload + 4, (uint16_t)(CHANNEL + v6), len);
        if (from_client)
            frame_make(&good, &from, &at, payload, len + 4);
        else
            frame_make(&good, &from, &at, payload + 4, len);
        odd = good;
        size_t headers = ETH + (from.family == ADDR_V4 ? 20 : 40) + 8 + (from_client ? 4 : 0);
        odd.bytes[12 + pick((uint32_t)headers - 12)] ^= (uint8_t)(1u << pick(8));
        if (pick(4) == 0)
            odd.len -= pick(odd.len - ETH - (from.family == ADDR_V4 ? 20 : 40));
        again = odd;
        if (!run(&odd)) {
            up++;
            continue;
        }
        /* Time to live, class, flow label and DF are nothing to a socket; nor is a wrong sum of UDP
         * to us, which stays wrong. */
        left++;
        size_t changed = 0;
        for (size_t b = 0; b < again.len; b++)
            if (again.bytes[b] != good.bytes[b])
                changed = b;
        bool harmless =
            from.family == ADDR_V6 && (changed == ETH || changed == ETH + 1 || changed == ETH + 2 ||
                                       changed == ETH + 3 || changed == ETH + 7);
        size_t sum_at = headers - (from_client ? 4 : 0) - 2;
        harmless = harmless || changed == sum_at || changed == sum_at + 1;
        if (!CHECK(harmless && again.len == good.len))
            fprintf(stderr, "    byte %zu of %u\n", changed, again.len);
    }
    CHECK(left > 0 && up > ROUNDS / 2);
}

static void wrong_sums_stay_wrong(void)
{
    uint8_t payload[100];
    struct addr relayed = relayed_of(false);
    struct frame f;
    random_payload(payload, 100);
    frame_make(&f, &k.peer, &relayed, payload, 100);
    f.bytes[ETH + 20 + 8 + 50] ^= 1;
    CHECK(run(&f));
    CHECK(udp_sum(&k.server, &k.client, f.bytes + ETH + 20, 112) != 0xffff);
}

/* What this machine's own programs send, before a device completes it; and none at all. */
static void sums_that_are_none_go_up(void)
{
    uint8_t payload[100];
    struct addr relayed = relayed_of(false);
    struct frame f;
    random_payload(payload, 100);
    frame_make(&f, &k.peer, &relayed, payload, 100);
    store16(f.bytes + ETH + 26, 0);
    CHECK(!run(&f));
    uint32_t partial = sum_of(k.peer.ip, 16, sum_of(relayed.ip, 16, 0)) + 108 + 17;
    store16(f.bytes + ETH + 26, folded(partial));
    CHECK(!run(&f));
}

static bool passes(void)
{
    uint8_t payload[64];
    struct frame f;
    memcpy(payload + 4, "media", 5);
    channel_put_header(payload + 4, CHANNEL, 5);
    frame_make(&f, &k.client, &k.server, payload, 9);
    return run(&f);
}

static void hot_again(void)
{
    speak(50);
    kit_turn(&k, 1000);
    speak(50);
    kit_turn(&k, 1000);
    come_in_by_loopback();
    CHECK(passes());
}

static void counters_are_those_of_sockets(void)
{
    session_collect(&k.worker.shard.sessions, s);
    uint64_t packets = s->client_packets, bytes = s->client_bytes;
    uint64_t all = kit_count(&k, CTR_peer_sent_packets);
    for (unsigned i = 0; i < 10; i++)
        CHECK(passes());
    session_collect(&k.worker.shard.sessions, s);
    CHECK_EQ(s->client_packets, packets + 10);
    CHECK_EQ(s->client_bytes, bytes + 50);
    kit_turn(&k, 1000);
    CHECK(kit_count(&k, CTR_peer_sent_packets) >= all + 10);
    come_in_by_loopback();
}

/* Each of these ends what was said at once, before anybody looks at anything again. */
static void what_ends_an_entry(void)
{
    test_begin("a policy that forbids the peer");
    kit_policy(&k, &k.peer, 128);
    CHECK(!passes());
    test_begin("a new policy that allows it: at the next look");
    kit_policy(&k, NULL, 0);
    CHECK(!passes());
    CHECK_EQ(kit_channel(&k, ID, CHANNEL, &k.peer, 600000, 300000), CTL_OK);
    hot_again();
    test_begin("a permission that becomes shorter");
    CHECK_EQ(kit_channel(&k, ID, CHANNEL, &k.peer, 600000, 200000), CTL_OK);
    CHECK(!passes());
    hot_again();
    test_begin("somebody looks at the session");
    CHECK(session_begin_look(&k.worker.shard.sessions, s, k.worker.shard.time.now));
    s->look->until = k.worker.shard.time.now + 60 * NS_PER_S;
    CHECK(!passes());
    speak(50);
    kit_turn(&k, 1000);
    CHECK(!passes());
    session_end_look(&k.worker.shard.sessions, s);
    hot_again();
    test_begin("a limit on all: at the next look");
    shared_bucket_set(&k.limits.total, bandwidth(1000000000));
    kit_turn(&k, 1000);
    CHECK(!passes());
    CHECK_EQ(entries(), 0);
    shared_bucket_set(&k.limits.total, bandwidth(0));
    hot_again();
    test_begin("a limit on its user: likewise");
    shared_bucket_set(s->user, bandwidth(1000000000));
    kit_turn(&k, 1000);
    CHECK(!passes());
    shared_bucket_set(s->user, bandwidth(0));
    hot_again();
    test_begin("its own end in time, with nobody there to see to it");
    for (struct offloaded *o = s->offloaded; o; o = o->next)
        o->entry->until = clock_read().now;
    CHECK(!passes());
    kit_turn(&k, 1000);
    come_in_by_loopback();
    CHECK(passes());
    test_begin("a worker that does not turn any more");
    uint64_t until = k.worker.shard.sessions.offloads.governor->until;
    k.worker.shard.sessions.offloads.governor->until = clock_read().now;
    CHECK(!passes());
    k.worker.shard.sessions.offloads.governor->until = until;
    CHECK(passes());
    test_begin("one packet now and then goes up");
    for (struct offloaded *o = s->offloaded; o; o = o->next)
        o->entry->up_next = clock_read().now;
    CHECK(!passes());
    CHECK(passes());
    test_begin("what is longer than the interface takes");
    for (struct offloaded *o = s->offloaded; o; o = o->next)
        o->entry->mtu = 32;
    CHECK(!passes());
    kit_turn(&k, 6000);
    hot_again();
    test_begin("the session");
    alloc_end(&k.worker.shard, s, GONE_DELETED);
    CHECK(!passes());
    kit_turn(&k, 0);
    kit_turn(&k, 0);
    CHECK_EQ(k.worker.shard.sessions.offloads.live, 0);
}

static bool network(void)
{
    return unshare(CLONE_NEWNET) == 0 &&
           system("ip link set lo up && ip link add e0 type veth peer name e1 && "
                  "ip link set e0 up && ip link set e1 up && "
                  "ip addr add 192.0.2.1/24 dev e0 && ip addr add 2001:db8::1/64 dev e0 nodad && "
                  "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev e0 && "
                  "ip neigh add 192.0.2.254 lladdr 02:00:00:00:00:09 dev e0 && "
                  "ip neigh add 2001:db8::fe lladdr 02:00:00:00:00:09 dev e0 && "
                  "ip route add default via 192.0.2.254 && "
                  "ip route add default via 2001:db8::fe") == 0;
}

static void both_ways(enum offload_way w)
{
    char why[OFFLOAD_WHY_MAX];
    way = w;
    kernel = offload_open(w, why);
    test_begin("it is loaded");
    CHECK(kernel != NULL);
    if (!kernel)
        return;
    start_worker();
    RUN(hot_channels_have_entries);
    keep_up();
    RUN(leaves_as_by_sockets);
    keep_up();
    RUN(peers_may_say_what_looks_like_channel_data);
    keep_up();
    RUN(nothing_leaves_that_is_odd);
    keep_up();
    RUN(wrong_sums_stay_wrong);
    keep_up();
    RUN(sums_that_are_none_go_up);
    keep_up();
    RUN(counters_are_those_of_sockets);
    keep_up();
    what_ends_an_entry();
    kit_stop(&k);
    offload_close(kernel);
    s = NULL;
}

int main(void)
{
    char why[OFFLOAD_WHY_MAX] = "no network of its own without root";
    struct offload *o = network() ? offload_open(OFFLOAD_TC, why) : NULL;
    test_begin("a refusal has a reason");
    CHECK(o || why[0]);
    offload_close(o);
    if (!o) {
        fprintf(stderr, "offload: not shown here: %s\n", why);
        return test_end("offload");
    }
    both_ways(OFFLOAD_TC);
    both_ways(OFFLOAD_XDP);
    return test_end("offload");
}
