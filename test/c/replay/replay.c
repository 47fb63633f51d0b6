/*
 * Plays fixed packets through a worker on the real backend, in the ways a relay is used, for
 * callgrind to count what our own code costs each (test/instructions.sh): the kernel is not
 * counted, nor is anything outside of a worker's turn.
 *
 *   replay io_uring|epoll    one dump of callgrind for each kind: "KIND DATAGRAMS"
 *
 * All is on loopback and done by one thread, so what was sent has arrived and every round is like
 * the one before; a kind is played again from the start if one was not.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include "bytes.h"
#include "relay_kit.h"

enum { BATCH = 16, WARM_UP = 20, TURNS = 200, MS = 600000 };
enum { CHANNEL = 0x4001, TO_MATE = 0x4002, SESSION = 42, MATE = 52 };

/* How many datagrams a turn takes, and whether they are alike and so leave in runs. */
struct shape {
    const char *name;
    unsigned count;
    bool alike;
};

static const struct shape shapes[] = {
    {"single", 1, true}, {"batch", BATCH, false}, {"run", BATCH, true}};

struct end {
    int fd;
    struct addr at;
};

static struct kit k;
static struct end client, peer, stranger; /* a peer without a channel */
static struct end mate;                   /* another client, and peer by its relayed address */
static struct session *session;

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "replay: %s\n", what);
        exit(1);
    }
}

static struct end end_at(const char *ip)
{
    struct end e = {0};
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    must(addr_parse(&e.at, ip, 0), ip);
    e.fd = socket(e.at.family == ADDR_V4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    socklen_t n = addr_to_sockaddr(&e.at, &ss);
    must(e.fd >= 0 && bind(e.fd, (struct sockaddr *)&ss, n) == 0, "bind");
    must(getsockname(e.fd, (struct sockaddr *)&ss, &len) == 0 &&
             addr_from_sockaddr(&e.at, (struct sockaddr *)&ss, len),
         "getsockname");
    return e;
}

static void send_to(const struct end *from, const struct addr *to, const uint8_t *data, size_t len)
{
    struct sockaddr_storage ss;
    socklen_t n = addr_to_sockaddr(to, &ss);
    must(sendto(from->fd, data, len, 0, (struct sockaddr *)&ss, n) == (ssize_t)len, "sendto");
}

static unsigned drain(const struct end *e)
{
    static uint8_t buf[4096];
    unsigned n = 0;
    while (recv(e->fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0)
        n++;
    return n;
}

/* --------------------------------------------------------------------------------------- kinds */

static struct addr relayed(void)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr a = {0};
    struct relayed *r = &session->relayed[peer.at.family == ADDR_V6];
    must(getsockname(r->io.fd, (struct sockaddr *)&ss, &len) == 0 &&
             addr_from_sockaddr(&a, (struct sockaddr *)&ss, len),
         "relayed address");
    return a;
}

static void by_channel(uint16_t number, size_t len)
{
    uint8_t buf[2048] = {0};
    channel_put_header(buf + 4, number, len);
    send_to(&client, &k.server, buf, len + 4);
}

static void channel_up(size_t len)
{
    by_channel(CHANNEL, len);
}

static void shortcut(size_t len)
{
    by_channel(TO_MATE, len);
}

static void channel_down(size_t len)
{
    static const uint8_t zeros[2048];
    struct addr to = relayed();
    send_to(&peer, &to, zeros, len);
}

static void send_up(size_t len)
{
    static const uint8_t zeros[2048], txid[STUN_TXID_LEN];
    uint8_t buf[2048];
    struct stun_builder b;
    stun_build_start(&b, buf, sizeof(buf), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, &stranger.at);
    stun_put_bytes(&b, A_data, zeros, len);
    send_to(&client, &k.server, buf, stun_build_end(&b));
}

static void data_down(size_t len)
{
    static const uint8_t zeros[2048];
    struct addr to = relayed();
    send_to(&stranger, &to, zeros, len);
}

static void binding(size_t len)
{
    static const uint8_t txid[STUN_TXID_LEN];
    uint8_t buf[64];
    struct stun_builder b;
    (void)len;
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
    send_to(&client, &k.server, buf, stun_build_end(&b));
}

/* One source of RTP each way, for sessions that are looked at. */
static size_t media(uint8_t *out, size_t len)
{
    static uint16_t sequence;
    memset(out, 0, len);
    store16(out, 0x8000);
    store16(out + 2, ++sequence);
    store32(out + 4, sequence * 160u);
    return len;
}

static void media_up(size_t len)
{
    uint8_t buf[2048];
    channel_put_header(buf + 4, CHANNEL, media(buf + 4, len));
    send_to(&client, &k.server, buf, len + 4);
}

static void media_down(size_t len)
{
    uint8_t buf[2048];
    struct addr to = relayed();
    send_to(&peer, &to, buf, media(buf, len));
}

struct kind {
    const char *name;
    void (*play)(size_t len);
    struct end *arrives_at;
};

static const struct kind kinds[] = {{"channel-up", channel_up, &peer},
                                    {"channel-down", channel_down, &client},
                                    {"send-up", send_up, &stranger},
                                    {"data-down", data_down, &client},
                                    {"binding", binding, &client}};

/* Of a session that somebody looks at (docs/design/seeing.md). */
static const struct kind looked[] = {{"looked-up", media_up, &peer},
                                     {"looked-down", media_down, &client}};

/* Last of all: it takes another session. Each counts as a client's and as a peer's. */
static const struct kind to_mate = {"shortcut", shortcut, &mate};

/* ------------------------------------------------------------------------------------- playing */

static uint64_t handled(void)
{
    return kit_count(&k, CTR_client_packets) + kit_count(&k, CTR_peer_packets);
}

/* Until n datagrams were handled and what they led to was sent. io_uring hands up 32 of a socket
 * and looks at the others first: now and then there is one turn more, in the same places each time.
 */
static void measured_turns(unsigned n)
{
    uint64_t goal = handled() + n;
    CALLGRIND_TOGGLE_COLLECT;
    for (int turns = 0; turns < 4 && handled() < goal; turns++) {
        io_wait(k.io, 0);
        worker_turn(&k.worker);
    }
    io_wait(k.io, 0);
    CALLGRIND_TOGGLE_COLLECT;
    worker_turn(&k.worker);
}

static bool play_turns(const struct kind *kind, const struct shape *shape, unsigned turns)
{
    bool even = true;
    for (unsigned t = 0; t < turns; t++) {
        for (unsigned i = 0; i < shape->count; i++)
            kind->play(shape->alike ? 160 : 160 + 4 * i);
        measured_turns(kind == &to_mate ? 2 * shape->count : shape->count);
        even = drain(kind->arrives_at) == shape->count && even;
    }
    return even;
}

static void play(const struct kind *kind, const struct shape *shape, const char *family)
{
    char name[64];
    bool even = false;
    for (int tries = 0; !even && tries < 5; tries++) {
        play_turns(kind, shape, WARM_UP);
        CALLGRIND_ZERO_STATS;
        even = play_turns(kind, shape, TURNS);
    }
    must(even, "turns differ: datagrams were lost or late");
    snprintf(name, sizeof(name), "%s-%s-%s %u", kind->name, shape->name, family,
             TURNS * shape->count);
    CALLGRIND_DUMP_STATS_AT(name);
}

/* It and the client have channels for each other. */
static void allocate_mate(bool v6)
{
    struct addr address = relayed_local(&session->relayed[v6]);
    mate = end_at("127.0.0.1");
    k.client = mate.at;
    struct session *other = kit_allocate(&k, MATE + v6, !v6, v6, MS);
    must(other && kit_channel(&k, MATE + v6, CHANNEL, &address, MS, MS) == CTL_OK, "mate");
    address = relayed_local(&other->relayed[v6]);
    must(kit_channel(&k, SESSION + v6, TO_MATE, &address, MS, MS) == CTL_OK, "its channel");
}

static void play_looked(const char *family)
{
    struct ctl_frame out,
        f = {.code = CTL_LOOK, .u.look = {.session = session->id, .lifetime_ms = MS}};
    kit_command(&k, &f);
    must(kit_frame(&k, &out) && out.code == CTL_LOOKED, "look");
    for (size_t i = 0; i < ARRAY_SIZE(looked); i++)
        for (size_t j = 0; j < ARRAY_SIZE(shapes); j++)
            play(&looked[i], &shapes[j], family);
}

static void play_family(const char *family, const char *peer_ip)
{
    bool v6 = strcmp(family, "v6") == 0;
    client = end_at("127.0.0.1");
    peer = end_at(peer_ip);
    stranger = end_at(peer_ip);
    k.client = client.at;
    session = kit_allocate(&k, SESSION + v6, !v6, v6, MS);
    must(session && kit_channel(&k, SESSION + v6, CHANNEL, &peer.at, MS, MS) == CTL_OK &&
             kit_permit(&k, SESSION + v6, &stranger.at, MS) == CTL_OK,
         "allocation");
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        for (size_t j = 0; j < ARRAY_SIZE(shapes); j++)
            if (strcmp(kinds[i].name, "binding") != 0 || !v6)
                play(&kinds[i], &shapes[j], family);
    allocate_mate(v6);
    for (size_t j = 0; j < ARRAY_SIZE(shapes); j++)
        play(&to_mate, &shapes[j], family);
    must(kit_count(&k, CTR_shortcut_packets) > 0, "none took a shortcut");
    if (!v6)
        play_looked(family);
}

int main(int argc, char **argv)
{
    bool epoll = argc == 2 && strcmp(argv[1], "epoll") == 0;
    must(epoll || (argc == 2 && strcmp(argv[1], "io_uring") == 0), "io_uring or epoll?");
    kit_start_on(&k, epoll ? BACKEND_EPOLL : BACKEND_IO_URING);
    k.server = k.listener->local;
    k.worker.shard.config.shortcuts = true;
    k.worker.shard.config.workers = 1;
    play_family("v4", "127.0.0.2");
    play_family("v6", "::1");
    return 0;
}
