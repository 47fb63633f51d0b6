/*
 * Shortcuts (docs/design/shortcuts.md): two clients of one server, of one worker or of two, take
 * one hop where the long way would let a packet through, and the long way as soon as it would not.
 */
#include <errno.h>

#include "relay_kit.h"
#include "shortcuts.h"
#include "test.h"

#define A_ID    42u
#define B_OF(k) (((uint64_t)(k)->worker.shard.config.index << 56) | 43u)

enum { A_NUMBER = 0x4001, B_NUMBER = 0x4002, MINUTE = 60000 };

/* A is of the first worker; B of the second, or of the first as well. */
static struct kit first, second;
static struct kit *bs;
static struct session *a, *b;
static struct addr a_addr, b_addr, a_client, b_client;
static struct fake_sent sent;
static uint8_t buf[2048];

/* Both have the ports of the first, as all workers have those of the control thread. */
static void share_ports(void)
{
    ports_destroy(&second.ports);
    second.ports = first.ports;
    for (uint32_t i = 0; i < first.ports.pool_count; i++)
        pool_hold(first.ports.pools[i]);
    kit_policy(&second, NULL, 0);
}

static void start(bool apart)
{
    kit_start(&first);
    kit_start(&second);
    share_ports();
    struct kit *kits[2] = {&first, &second};
    for (unsigned i = 0; i < 2; i++) {
        kits[i]->worker.shard.config.index = i;
        kits[i]->worker.shard.config.workers = 2;
        kits[i]->worker.shard.config.shortcuts = true;
        kits[i]->shards[0] = &first.worker.shard;
        kits[i]->shards[1] = &second.worker.shard;
    }
    bs = apart ? &second : &first;
}

/* What A holds of B is let go while there is B's worker: theirs end together. */
static void stop(void)
{
    struct ctl_frame f = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = A_ID}};
    kit_command(&first, &f);
    kit_stop(&second);
    kit_stop(&first);
}

static void turns(uint64_t forward_ms)
{
    for (int i = 0; i < 2; i++) {
        kit_turn(&second, i ? 0 : forward_ms);
        kit_turn(&first, i ? 0 : forward_ms);
    }
}

/* Both have an allocation, and time for what follows. */
static void allocate(uint32_t b_ms, bool v6)
{
    a_client = first.client;
    a = kit_allocate(&first, A_ID, !v6, v6, 60 * MINUTE);
    bs->client.port++;
    b_client = bs->client;
    b = kit_allocate(bs, B_OF(bs), !v6, v6, b_ms);
    CHECK(a && b);
    a_addr = relayed_local(&a->relayed[v6]);
    b_addr = relayed_local(&b->relayed[v6]);
}

static void bind_both(uint32_t channel_ms, uint32_t permission_ms)
{
    CHECK_EQ(kit_channel(&first, A_ID, A_NUMBER, &b_addr, 60 * MINUTE, 60 * MINUTE), CTL_OK);
    CHECK_EQ(kit_channel(bs, B_OF(bs), B_NUMBER, &a_addr, channel_ms, permission_ms), CTL_OK);
}

static void from_a(const void *data, size_t len)
{
    fake_io_deliver(first.io, &first.listener->io, &a_client, NULL, data, len);
    turns(0);
}

static void a_says(const char *text)
{
    size_t len = strlen(text);
    memcpy(buf + 4, text, len);
    channel_put_header(buf + 4, A_NUMBER, len);
    from_a(buf, len + 4);
}

static void a_sends(const char *text, bool whole)
{
    struct stun_builder sb;
    uint8_t txid[STUN_TXID_LEN] = {1};
    stun_build_start(&sb, buf, sizeof(buf), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&sb, A_xor_peer_address, &b_addr);
    stun_put_bytes(&sb, A_data, text, strlen(text));
    if (whole)
        stun_put_bytes(&sb, A_dont_fragment, NULL, 0);
    from_a(buf, stun_build_end(&sb));
}

static bool nothing_sent(void)
{
    return !fake_io_take(first.io, &sent) && !fake_io_take(second.io, &sent);
}

/* What was sent last went out of A's relayed address, to B's. */
static bool went_long(void)
{
    return fake_io_take(first.io, &sent) && sent.socket->handler != first.listener->io.handler &&
           addr_equal(&sent.to, &b_addr) && nothing_sent();
}

/* It went to B's client by A's worker, from the server's address. */
static bool went_short(void)
{
    return fake_io_take(first.io, &sent) && sent.socket == &first.listener->io &&
           addr_equal(&sent.to, &b_client);
}

static bool is_channel_data(uint16_t number, const char *text)
{
    size_t len = strlen(text);
    return sent.len == len + 4 && load16(sent.data) == number && load16(sent.data + 2) == len &&
           memcmp(sent.data + 4, text, len) == 0;
}

static bool is_indication(const char *text)
{
    struct stun_view v;
    struct addr from;
    const uint8_t *data;
    size_t len;
    return stun_parse(&v, sent.data, sent.len) == STUN_OK && v.method == STUN_DATA &&
           stun_get_addr(&v, A_xor_peer_address, &from) == STUN_OK && addr_equal(&from, &a_addr) &&
           stun_get_bytes(&v, A_data, &data, &len) == STUN_OK && len == strlen(text) &&
           memcmp(data, text, len) == 0;
}

/* Says until the shortcut is there: at once in one worker, after the first packet in two. */
static void join(void)
{
    a_says("first");
    if (bs == &second)
        CHECK(went_long());
    else
        CHECK(went_short());
    a_says("next");
    CHECK(went_short());
    CHECK(nothing_sent());
    CHECK_EQ(shortcut_peers(&first.worker.shard, a), 1);
}

static void start_joined(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    bind_both(60 * MINUTE, 60 * MINUTE);
    join();
}

static uint64_t counted(enum counter c)
{
    return kit_count(&first, c) + kit_count(&second, c);
}

/* B's client refuses a packet on the long way, too: from now on there is no shortcut. */
static void not_joined(void)
{
    for (int i = 0; i < 3; i++) {
        turns(300);
        a_says("none");
        CHECK(went_long());
    }
    CHECK_EQ(shortcut_peers(&first.worker.shard, a), 0);
}

/* ------------------------------------------------------------------------------- what arrives */

static void one_hop(bool apart)
{
    start_joined(apart);
    a_says("hello");
    CHECK(went_short() && is_channel_data(B_NUMBER, "hello"));
    a_sends("hello", false);
    CHECK(went_short() && is_channel_data(B_NUMBER, "hello"));
    a_says("");
    CHECK(went_short() && is_channel_data(B_NUMBER, ""));
    fake_io_crowd(first.io, true);
    a_says("without room");
    CHECK(went_short() && is_channel_data(B_NUMBER, "without room"));
    a_sends("without room", false);
    CHECK(went_short() && is_channel_data(B_NUMBER, "without room"));
    CHECK(nothing_sent());
    CHECK_EQ(counted(CTR_shortcuts), 1);
    CHECK_EQ(counted(CTR_shortcuts_ended), 0);
    stop();
}

static void as_a_data_indication(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    CHECK_EQ(kit_channel(&first, A_ID, A_NUMBER, &b_addr, 60 * MINUTE, 60 * MINUTE), CTL_OK);
    CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, 60 * MINUTE), CTL_OK);
    join();
    a_says("by channel");
    CHECK(went_short() && is_indication("by channel"));
    a_sends("by Send", false);
    CHECK(went_short() && is_indication("by Send"));
    fake_io_crowd(first.io, true);
    a_says("without room");
    CHECK(went_short() && is_indication("without room"));
    fake_io_crowd(first.io, false);
    CHECK_EQ(kit_channel(bs, B_OF(bs), B_NUMBER, &a_addr, 60 * MINUTE, 60 * MINUTE), CTL_OK);
    join();
    CHECK(is_channel_data(B_NUMBER, "next"));
    stop();
}

static void ipv6(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, true);
    bind_both(60 * MINUTE, 60 * MINUTE);
    join();
    CHECK(is_channel_data(B_NUMBER, "next"));
    stop();
}

static void both_ways_and_counted(bool apart)
{
    start_joined(apart);
    struct ctl_frame f = {.code = CTL_SESSION_INFO, .u.session_info = {.session = B_OF(bs)}};
    kit_command(bs, &f);
    CHECK(kit_frame(bs, &f) && f.code == CTL_SESSION_STATS);
    unsigned by_shortcut = apart ? 1 : 2; /* what went long has not arrived: there is no kernel */
    CHECK_EQ(f.u.session_stats.peer_packets, by_shortcut);
    CHECK_EQ(f.u.session_stats.peer_bytes, apart ? 4 : 9);
    CHECK_EQ(f.u.session_stats.client_packets, 0);
    f = (struct ctl_frame){.code = CTL_SESSION_INFO, .u.session_info = {.session = A_ID}};
    kit_command(&first, &f);
    CHECK(kit_frame(&first, &f));
    CHECK_EQ(f.u.session_stats.client_packets, 2);
    CHECK_EQ(f.u.session_stats.client_bytes, 9);
    CHECK_EQ(f.u.session_stats.shortcuts, 1);
    CHECK_EQ(counted(CTR_peer_sent_packets), 2);
    CHECK_EQ(counted(CTR_peer_sent_bytes), 9);
    CHECK_EQ(counted(CTR_peer_packets), by_shortcut);
    CHECK_EQ(counted(CTR_client_sent_packets), by_shortcut);
    CHECK_EQ(counted(CTR_shortcut_packets), by_shortcut);

    memcpy(buf + 4, "back", 4);
    channel_put_header(buf + 4, B_NUMBER, 4);
    for (int i = 0; i < 2; i++) {
        fake_io_deliver(bs->io, &bs->listener->io, &b_client, NULL, buf, 8);
        turns(0);
    }
    while (fake_io_take(bs->io, &sent))
        ;
    CHECK(sent.socket == &bs->listener->io && addr_equal(&sent.to, &a_client));
    CHECK(is_channel_data(A_NUMBER, "back"));
    stop();
}

/* The kernel refuses it: taken back from what B got, and dropped under its reason. */
static void unsent_is_taken_back(bool apart)
{
    start_joined(apart);
    struct ctl_frame f = {.code = CTL_SESSION_INFO, .u.session_info = {.session = B_OF(bs)}};
    kit_command(bs, &f);
    CHECK(kit_frame(bs, &f));
    uint64_t packets = f.u.session_stats.peer_packets, bytes = f.u.session_stats.peer_bytes;
    for (int told = 0; told < 2; told++) { /* before B's worker was asked, and after */
        a_says("unsent");
        if (told) {
            f = (struct ctl_frame){.code = CTL_SESSION_INFO, .u.session_info = {B_OF(bs)}};
            kit_command(bs, &f);
            CHECK(kit_frame(bs, &f));
        }
        CHECK(fake_io_unsend(first.io, ENOBUFS));
    }
    f = (struct ctl_frame){.code = CTL_SESSION_INFO, .u.session_info = {B_OF(bs)}};
    kit_command(bs, &f);
    CHECK(kit_frame(bs, &f));
    CHECK_EQ(f.u.session_stats.peer_packets, packets);
    CHECK_EQ(f.u.session_stats.peer_bytes, bytes);
    CHECK_EQ(f.u.session_stats.dropped, 2);
    CHECK_EQ(f.u.session_stats.send_queue_full, 2);
    CHECK_EQ(counted(CTR_send_queue_full), 2);
    stop();
}

static void whole_goes_long(bool apart)
{
    start_joined(apart);
    a_sends("whole", true);
    CHECK(fake_io_take(first.io, &sent) && addr_equal(&sent.to, &b_addr));
    CHECK_EQ(sent.flags, IO_DONT_FRAGMENT);
    CHECK(nothing_sent());
    a_sends("not", false);
    CHECK(went_short());
    stop();
}

/* ------------------------------------------------------------------------------ what it is up to
 */

static void refused_without_b_half(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    CHECK_EQ(kit_channel(&first, A_ID, A_NUMBER, &b_addr, 60 * MINUTE, 60 * MINUTE), CTL_OK);
    not_joined();
    CHECK_EQ(counted(CTR_shortcuts), 0);
    CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, 60 * MINUTE), CTL_OK);
    turns(300);
    join();
    stop();
}

static void deleted(bool apart)
{
    start_joined(apart);
    struct ctl_frame f = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = B_OF(bs)}};
    kit_command(bs, &f);
    a_says("to nobody");
    CHECK(went_long());
    CHECK_EQ(counted(CTR_shortcuts_ended), 1);
    while (kit_frame(bs, &f))
        ;
    not_joined(); /* on loopback any port may be sent to */
    CHECK_EQ(bs->worker.shard.sessions.session_slab.live, apart ? 0 : 1);
    stop();
}

/* The port is another client's by now, who wants nothing of A. */
static void port_of_another(bool apart)
{
    start_joined(apart);
    struct ctl_frame f = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = B_OF(bs)}};
    kit_command(bs, &f);
    turns(0);
    while (kit_frame(bs, &f))
        ;
    bs->client.port++;
    struct mail_alloc m = {.ref = 9,
                           .session = B_OF(bs) + 1,
                           .listener = 1,
                           .transport = CTL_TRANSPORT_UDP,
                           .client = bs->client,
                           .server = bs->server,
                           .lifetime_ms = 60 * MINUTE,
                           .home = bs->worker.shard.config.index};
    uint64_t token;
    CHECK_EQ(port_take(&bs->ports, ports_find(&bs->ports, 1), b_addr.port, PORT_ANY, 0,
                       &m.relayed[0], &token),
             0);
    kit_mail(bs, MAIL_ALLOC, &m, sizeof(m));
    turns(0);
    CHECK(kit_frame(bs, &f) && f.u.alloc_created.status == CTL_OK);
    not_joined();
    CHECK_EQ(kit_permit(bs, B_OF(bs) + 1, &a_addr, 60 * MINUTE), CTL_OK);
    turns(300);
    b_client = bs->client;
    join();
    stop();
}

static void expired(bool apart)
{
    start(apart);
    allocate(2 * MINUTE, false);
    bind_both(60 * MINUTE, 60 * MINUTE);
    join();
    for (int i = 0; i < 4; i++) { /* what is not renewed ends to the millisecond, asked or not */
        turns(30000 - (i == 3));
        a_says("still");
        CHECK(went_short());
    }
    first.worker.shard.time.now += NS_PER_MS; /* its own clock, before anything is swept */
    size_t len = 4;
    channel_put_header(buf + 4, A_NUMBER, 0);
    fake_io_deliver(first.io, &first.listener->io, &a_client, NULL, buf, len);
    kit_turn(&first, 0);
    CHECK(!went_short());
    stop();
}

static void family_ends(bool apart)
{
    start_joined(apart);
    struct ctl_frame f = {
        .code = CTL_ALLOC_REFRESH,
        .u.alloc_refresh = {.session = B_OF(bs), .lifetime_ms = MINUTE, .family = ADDR_V4}};
    CHECK_EQ(kit_ask(bs, &f), CTL_OK); /* shorter than what was told */
    join();
    turns(MINUTE - 1);
    a_says("at the end");
    CHECK(went_short());
    turns(1);
    a_says("over");
    CHECK(!went_short());
    stop();
}

static void channel_ends(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    bind_both(MINUTE, 60 * MINUTE);
    join();
    turns(MINUTE);
    join();
    CHECK(is_indication("next"));
    stop();
}

static void permission_ends(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    bind_both(60 * MINUTE, MINUTE);
    join();
    CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, MINUTE / 2), CTL_OK); /* sooner than was told */
    join();
    turns(MINUTE / 2);
    not_joined();
    CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, MINUTE), CTL_OK);
    turns(300);
    join();
    stop();
}

/* Nothing is lost, and nothing goes long, where B renews what it has in time. */
static void renewed(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    bind_both(60 * MINUTE, 2 * MINUTE);
    join();
    for (int i = 0; i < 12; i++) {
        turns(MINUTE / 2);
        if (i % 3 == 2)
            CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, 2 * MINUTE), CTL_OK);
        a_says("on and on");
        CHECK(went_short());
        a_says("on and on");
        CHECK(went_short());
    }
    CHECK_EQ(counted(CTR_shortcuts), 1);
    stop();
}

static void forbidden_to_b(bool apart)
{
    start_joined(apart);
    if (!apart) {
        stop();
        return; /* one policy for both: the next */
    }
    kit_policy(&second, &a_addr, 128);
    not_joined();
    stop();
}

static void forbidden_to_a(bool apart)
{
    start_joined(apart);
    kit_policy(&first, &b_addr, 128);
    a_says("forbidden");
    CHECK(nothing_sent());
    CHECK_EQ(counted(CTR_no_permission), 1);
    kit_policy(&first, NULL, 0);
    CHECK_EQ(kit_permit(&first, A_ID, &b_addr, 60 * MINUTE), CTL_OK);
    if (!apart)
        CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, 60 * MINUTE), CTL_OK);
    a_says("allowed");
    CHECK(went_short()); /* nothing that B has was ever forbidden, or it is asked at once */
    stop();
}

/* Another policy that forbids neither. */
static void another_policy(bool apart)
{
    start_joined(apart);
    kit_policy(bs, NULL, 0);
    join();
    CHECK_EQ(counted(CTR_shortcuts_ended), 1);
    stop();
}

static void moved(bool apart)
{
    start_joined(apart);
    bs->client.port += 100;
    struct addr moves_to = bs->client;
    CHECK_EQ(kit_move(bs, B_OF(bs), bs->worker.shard.config.index), CTL_OK);
    a_says("pending");
    CHECK(went_short()); /* the old address serves until the new one has spoken */
    channel_put_header(buf + 4, B_NUMBER, 0);
    fake_io_deliver(bs->io, &bs->listener->io, &moves_to, NULL, buf, 4);
    turns(0);
    while (fake_io_take(bs->io, &sent)) /* it takes a shortcut, too */
        ;
    b_client = moves_to;
    join();
    stop();
}

static void tune(struct kit *k, bool shortcuts)
{
    const struct shard_config *c = &k->worker.shard.config;
    struct ctl_frame f = {.code = CTL_TUNE,
                          .u.tune = {.nonce_lifetime_s = c->nonce_lifetime_s,
                                     .channel_max = c->channel_max,
                                     .shortcuts = shortcuts}};
    kit_command(k, &f);
}

static void turned_off(bool apart)
{
    start_joined(apart);
    tune(&first, false);
    not_joined();
    tune(&first, true);
    tune(bs, false);
    turns(60 * MINUTE - 2000); /* what A was told is over */
    stop();
    start(apart);
    tune(bs, false);
    allocate(60 * MINUTE, false);
    bind_both(60 * MINUTE, 60 * MINUTE);
    not_joined(); /* B's worker tells nobody */
    stop();
}

/* ---------------------------------------------------------------------------------------- limits
 */

/* Until it is refused: how many were let through. */
static unsigned let_through(void)
{
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = 0;
    for (unsigned n = 0; n < 1000; n++) {
        a_says(text);
        if (nothing_sent())
            return n;
    }
    return 1000;
}

static const uint64_t per_second = 100000;
/* Two of the largest datagrams, of 1,000 bytes and headers, and what the first two have taken. */
enum { BURST = 2 * 65536 / 1028 };

static void limited_a(bool apart)
{
    start_joined(apart);
    a->rate = bandwidth(per_second);
    session_set_detour(a);
    CHECK_EQ(let_through(), BURST);
    CHECK_EQ(counted(CTR_over_bandwidth), 1);
    CHECK_EQ(session_drops_for(a, CTR_over_bandwidth - CTR_no_channel), 1);
    stop();
}

static void limited_b(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    b->rate = bandwidth(per_second);
    session_set_detour(b);
    bind_both(60 * MINUTE, 60 * MINUTE);
    join();
    CHECK_EQ(let_through(), BURST);
    CHECK_EQ(counted(CTR_over_bandwidth), 1);
    session_collect(&bs->worker.shard.sessions, b);
    CHECK_EQ(session_drops_for(b, CTR_over_bandwidth - CTR_no_channel), 1);
    CHECK_EQ(session_dropped(b), 1);
    /* What comes the long way finds the same bucket empty. */
    CHECK(!bucket_has(session_bucket(b, TO_CLIENT), b->rate, bs->worker.shard.time.now, 1028));
    stop();
}

/* However a packet comes, by a shortcut or the long way, it is one of the same. */
static void paced_b(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    b->pace = packet_rate(1);
    session_set_detour(b);
    bind_both(60 * MINUTE, 60 * MINUTE);
    join();
    CHECK(let_through() > 0);
    CHECK_EQ(counted(CTR_over_packet_rate), 1);
    CHECK_EQ(counted(CTR_over_bandwidth), 0);
    session_collect(&bs->worker.shard.sessions, b);
    CHECK_EQ(b->peer_packets, 64);
    CHECK_EQ(session_drops_for(b, CTR_over_packet_rate - CTR_no_channel), 1);
    stop();
}

static void limited_user_and_server(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    bs->limits.users = bs->users;
    shared_bucket_set(&bs->users[1], bandwidth(per_second));
    b->user = &bs->users[1];
    session_set_detour(b);
    bind_both(60 * MINUTE, 60 * MINUTE);
    join();
    CHECK_EQ(let_through(), BURST);
    b->user = NULL;
    session_set_detour(b);
    kit_policy(bs, NULL, 0); /* so that it is told anew */
    join();
    shared_bucket_set(&first.limits.total, bandwidth(per_second));
    CHECK_EQ(let_through(), BURST);
    CHECK_EQ(counted(CTR_over_bandwidth), 2);
    stop();
}

/* ------------------------------------------------------------------------------ what it may take
 */

static void bounded(bool apart)
{
    start(apart);
    allocate(60 * MINUTE, false);
    CHECK_EQ(kit_permit(&first, A_ID, &b_addr, 60 * MINUTE), CTL_OK);
    CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, 60 * MINUTE), CTL_OK);
    uint16_t port = b_addr.port;
    struct pool *pool = ports_find(&first.ports, 1);
    for (unsigned i = 0; i < SHORTCUTS_EACH + 10; i++) { /* ports whose clients permit nobody */
        struct port taken;
        uint64_t token;
        CHECK_EQ(port_take(&first.ports, pool, 0, PORT_ANY, 0, &taken, &token), 0);
        close(taken.fd);
        b_addr.port = taken.port;
        a_sends("anybody", false);
        CHECK(went_long());
    }
    CHECK_EQ(a->shortcut_count, SHORTCUTS_EACH);
    CHECK_EQ(first.worker.shard.sessions.shortcuts.slab.live, SHORTCUTS_EACH);
    b_addr.port = port;
    a_sends("one too many", false);
    CHECK(went_long());
    turns(11000); /* what was asked for in vain is forgotten */
    CHECK_EQ(a->shortcut_count, 0);
    a_sends("first", false);
    CHECK(apart ? went_long() : went_short());
    a_sends("next", false);
    CHECK(went_short());
    for (unsigned i = pool->min; i <= pool->max; i++)
        if (i != a_addr.port && i != b_addr.port && port_is_live(pool, (uint16_t)i))
            port_release(pool, (uint16_t)i);
    stop();
}

/* What B leaves behind is freed when A knows; as long as A holds it, nobody else gets it. */
static void far_ends_are_freed(bool apart)
{
    start_joined(apart);
    struct far_ends *ends = &bs->worker.shard.sessions.far_ends;
    CHECK_EQ(ends->slab.live, 1);
    const struct far_end *left = b->far;
    struct ctl_frame f = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = B_OF(bs)}};
    kit_command(bs, &f);
    turns(0);
    CHECK_EQ(ends->slab.live, 1);
    CHECK(far_end_open(ends) != left);
    CHECK_EQ(ends->slab.live, 2);
    f = (struct ctl_frame){.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = A_ID}};
    kit_command(&first, &f);
    turns(0);
    CHECK_EQ(first.worker.shard.sessions.shortcuts.slab.live, 0);
    CHECK(far_end_open(ends) == left);
    CHECK_EQ(ends->slab.live, 2);
    stop();
}

/* A ends while B's answer is on its way. */
static void asker_is_gone(void)
{
    start(true);
    allocate(60 * MINUTE, false);
    bind_both(60 * MINUTE, 60 * MINUTE);
    channel_put_header(buf + 4, A_NUMBER, 0);
    kit_from_client(&first, buf, 4);
    struct ctl_frame f = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = A_ID}};
    kit_command(&first, &f);
    kit_turn(&second, 0);
    CHECK_EQ(atomic_load(&b->far->holds), 1);
    kit_turn(&first, 0);
    CHECK_EQ(atomic_load(&b->far->holds), 0);
    CHECK_EQ(counted(CTR_shortcuts), 0);
    stop();
}

/* What B said is not so any more when A's worker reads it. */
static void answer_is_late(void)
{
    start(true);
    allocate(60 * MINUTE, false);
    bind_both(60 * MINUTE, 60 * MINUTE);
    channel_put_header(buf + 4, A_NUMBER, 0);
    kit_from_client(&first, buf, 4);
    kit_turn(&second, 0);
    CHECK_EQ(kit_permit(bs, B_OF(bs), &a_addr, MINUTE), CTL_OK); /* sooner than was told */
    turns(0);
    CHECK(went_long());
    a_says("late");
    CHECK(went_long());
    a_says("known");
    CHECK(went_short());
    stop();
}

#define RUN(f)       (test_begin(#f ", one worker"), f(false), test_begin(#f ", two workers"), f(true))
#define RUN_APART(f) (test_begin(#f), f())

int main(void)
{
    RUN(one_hop);
    RUN(as_a_data_indication);
    RUN(ipv6);
    RUN(both_ways_and_counted);
    RUN(unsent_is_taken_back);
    RUN(whole_goes_long);
    RUN(refused_without_b_half);
    RUN(deleted);
    RUN(port_of_another);
    RUN(expired);
    RUN(family_ends);
    RUN(channel_ends);
    RUN(permission_ends);
    RUN(renewed);
    RUN(forbidden_to_b);
    RUN(forbidden_to_a);
    RUN(another_policy);
    RUN(moved);
    RUN(turned_off);
    RUN(limited_a);
    RUN(limited_b);
    RUN(paced_b);
    RUN(limited_user_and_server);
    RUN(bounded);
    RUN(far_ends_are_freed);
    RUN_APART(asker_is_gone);
    RUN_APART(answer_is_late);
    return test_end("shortcuts");
}
