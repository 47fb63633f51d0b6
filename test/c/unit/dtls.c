/*
 * DTLS 1.2 in a worker against OpenSSL's client: cookies that cost nothing, flights that get lost
 * or come in another order, a client that starts over, records that are forged, limits and ends,
 * and what an idle session costs. Threats X28, X96, X97, X98.
 */
#include <fcntl.h>
#include <malloc.h>
#include <openssl/err.h>
#include <sched.h>
#include <sys/time.h>

#include "certs.h"
#include "dtls.h"
#include "dtls_hello.h"
#include "relay_kit.h"

#include "test.h"

enum { DATAGRAM = 2048 };

static struct kit k;
static struct tls_store *store;

/* ------------------------------------------------------------------------------------- the time */

/* OpenSSL asks the system for the time, and gets ours: so a second passes at once. */
static uint64_t passed_ms;

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv,
                                                        void *restrict zone)
{
    (void)zone;
    tv->tv_sec = (time_t)(1700000000 + passed_ms / 1000);
    tv->tv_usec = (suseconds_t)(passed_ms % 1000 * 1000);
    return 0;
}

/* -------------------------------------------------------------------------------------- clients */

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    int ssl_end, net_end; /* OpenSSL writes to the one; what it writes is read from the other */
    struct sockaddr_in net;
    struct addr addr;
    bool closed;
};

static int bound(struct sockaddr_in *at)
{
    socklen_t len = sizeof(*at);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)at, len) || getsockname(fd, (struct sockaddr *)at, &len))
        abort();
    return fd;
}

/* A fresh session on the sockets that are there. */
static void client_anew(struct client *c)
{
    SSL_free(c->ssl);
    c->ssl = SSL_new(c->ctx);
    BIO *bio = BIO_new_dgram(c->ssl_end, BIO_NOCLOSE);
    BIO_ADDR *net = BIO_ADDR_new();
    BIO_ADDR_rawmake(net, AF_INET, &c->net.sin_addr, sizeof(c->net.sin_addr), c->net.sin_port);
    BIO_ctrl_set_connected(bio, net);
    BIO_ADDR_free(net);
    SSL_set_bio(c->ssl, bio, bio);
    SSL_set_connect_state(c->ssl);
    SSL_set_options(c->ssl, SSL_OP_NO_QUERY_MTU);
    SSL_set_mtu(c->ssl, 400); /* flights of several datagrams */
    c->closed = false;
}

static struct client *client_open(uint16_t port)
{
    struct client *c = calloc(1, sizeof(*c));
    struct sockaddr_in a;
    c->ssl_end = bound(&a);
    c->net_end = bound(&c->net);
    if (connect(c->ssl_end, (struct sockaddr *)&c->net, sizeof(c->net)) ||
        connect(c->net_end, (struct sockaddr *)&a, sizeof(a)))
        abort();
    c->ctx = SSL_CTX_new(DTLS_client_method());
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_NONE, NULL);
    CHECK(addr_parse(&c->addr, "192.0.2.9", port));
    client_anew(c);
    return c;
}

static void client_close(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->ssl_end);
    close(c->net_end);
    free(c);
}

static void deliver(const struct client *c, const void *data, size_t len)
{
    fake_io_deliver(k.io, &k.listener->io, &c->addr, NULL, data, len);
    kit_turn(&k, 0);
}

/* No thread has a handshake, and what they did has been seen. */
static void settle(void)
{
    const struct slab *slab = &k.worker.shard.associations.slab;
    for (uint32_t i = 0; i < slab->touched; i++) {
        const struct association *a = slab_at(slab, i);
        while (a->by_tuple.link && a->stepping) {
            sched_yield();
            kit_turn(&k, 0);
        }
    }
}

/* Which of the datagrams that pass are lost, and whether two swap their places. */
struct net {
    uint32_t lost; /* a bit for each, in the order in which they pass */
    bool swap;
    unsigned passed;
    size_t longest;
};

static bool passes(struct net *n, size_t len)
{
    n->longest = MAX(n->longest, len);
    return n->passed >= 32 || !(n->lost >> n->passed & 1) ? (n->passed++, true)
                                                          : (n->passed++, false);
}

/* All that the client has to say, to the worker. */
static bool to_server(struct client *c, struct net *n)
{
    uint8_t held[DATAGRAM], data[DATAGRAM];
    ssize_t held_len = 0, len;
    bool any = false;
    while ((len = recv(c->net_end, data, sizeof(data), 0)) > 0) {
        any = true;
        if (!passes(n, (size_t)len))
            continue;
        if (n->swap && !held_len) {
            memcpy(held, data, (size_t)len);
            held_len = len;
            continue;
        }
        deliver(c, data, (size_t)len);
    }
    if (held_len > 0)
        deliver(c, held, (size_t)held_len);
    settle();
    return any;
}

/* All that the worker has sent, to the client. */
static bool to_client(struct client *c, struct net *n)
{
    static struct fake_sent sent[32];
    unsigned count = 0;
    while (count < 32 && fake_io_take(k.io, &sent[count]))
        count++;
    for (unsigned i = 0; i < count; i++) {
        const struct fake_sent *s = &sent[n->swap ? count - 1 - i : i];
        CHECK(addr_equal(&s->to, &c->addr));
        if (passes(n, s->len))
            CHECK(send(c->net_end, s->data, s->len, 0) == (ssize_t)s->len);
    }
    return count > 0;
}

static bool lets_time_pass(struct client *c)
{
    passed_ms += 1000;
    kit_turn(&k, 1000);
    settle();
    return DTLSv1_handle_timeout(c->ssl) >= 0;
}

/* True when both are done; after so many seconds of silence at most. */
static bool shake(struct client *c, struct net *n, int patience)
{
    int ret;
    while ((ret = SSL_do_handshake(c->ssl)) != 1) {
        if (SSL_get_error(c->ssl, ret) != SSL_ERROR_WANT_READ)
            return false;
        bool any = to_server(c, n);
        any = to_client(c, n) || any;
        if (!any && (patience-- == 0 || !lets_time_pass(c)))
            return false;
    }
    to_server(c, n);
    return true;
}

static struct association *standing(const struct client *c, struct association **shaking)
{
    const struct flow f = {
        .transport = k.listener->transport->secure, .client = c->addr, .server = k.server};
    return association_find(&k.worker.shard.associations, &f, shaking);
}

static struct association *open_of(const struct client *c)
{
    struct association *shaking;
    return standing(c, &shaking);
}

static struct client *connected(uint16_t port)
{
    struct net n = {0};
    struct client *c = client_open(port);
    CHECK(shake(c, &n, 0));
    CHECK(open_of(c) != NULL);
    return c;
}

/* What the client reads next; 0: nothing is there. */
static size_t read_next(struct client *c, uint8_t *data, size_t cap)
{
    struct net n = {0};
    size_t got = 0;
    to_server(c, &n);
    to_client(c, &n);
    if (SSL_read_ex(c->ssl, data, cap, &got) != 1)
        c->closed = SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN;
    return got;
}

/* A Binding request is answered. */
static bool speaks(struct client *c)
{
    uint8_t answer[DATAGRAM];
    static const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 7};
    size_t n;
    if (SSL_write_ex(c->ssl, request, sizeof(request), &n) != 1)
        return false;
    n = read_next(c, answer, sizeof(answer));
    return n >= 20 && load16(answer) == 0x0101 && memcmp(answer + 4, request + 4, 16) == 0;
}

static uint64_t counted(enum counter c)
{
    return kit_count(&k, c);
}

static uint32_t live(void)
{
    return k.worker.shard.associations.slab.live;
}

static void end_all(void)
{
    settle();
    for (int i = 0; i < 40 && live(); i++) {
        passed_ms += 5000;
        kit_turn(&k, 5000);
        settle();
    }
    CHECK_EQ(live(), 0);
    struct fake_sent sent;
    while (fake_io_take(k.io, &sent))
        ;
}

/* -------------------------------------------------------------------------------------- hellos */

/* The client's hello as it is; where there is nothing to answer with. */
static size_t first_hello(struct client *c, uint8_t *data)
{
    SSL_do_handshake(c->ssl);
    ssize_t len = recv(c->net_end, data, DATAGRAM, 0);
    CHECK(len > DTLS_VERIFY_LEN);
    return (size_t)MAX(len, 0);
}

/* Each has room of its own on the stack. */
#define TEST __attribute__((noinline)) static void

TEST test_hello(void)
{
    uint8_t data[DATAGRAM], verify[DTLS_VERIFY_LEN], cookie[DTLS_COOKIE_LEN] = {1, 2, 3};
    struct dtls_hello h;
    struct client *c = client_open(6000);
    SSL_set_mtu(c->ssl, 1400);
    size_t len = first_hello(c, data);

    test_begin("a ClientHello is read, whole or not (X28)");
    CHECK_EQ(dtls_hello_read(data, len, &h), DTLS_HELLO);
    CHECK(h.cookie_len == 0 && h.sequence == 0 && h.number == 0 && h.size == len);
    for (size_t i = 0; i < len; i++)
        CHECK(dtls_hello_read(data, i, &h) == DTLS_NO_HELLO);
    data[14] = 9; /* 589,824 bytes and more it says */
    CHECK_EQ(dtls_hello_read(data, len, &h), DTLS_BAD_HELLO);
    data[14] = 0;
    store16(data + 11, 22); /* 35 bytes in all */
    CHECK_EQ(dtls_hello_read(data, 35, &h), DTLS_BAD_HELLO);
    store16(data + 11, (uint16_t)(len - 13));

    test_begin("what asks for a cookie has the numbers of the hello and is shorter");
    store16(data + 17, 1);
    data[10] = 7;
    CHECK_EQ(dtls_hello_read(data, len, &h), DTLS_HELLO);
    dtls_verify_build(&h, cookie, verify);
    struct dtls_record r;
    CHECK(dtls_record_read(verify, sizeof(verify), &r));
    CHECK(r.epoch == 0 && r.number == 7 && r.size == sizeof(verify) && r.size < len);
    CHECK_EQ(load16(verify + 17), 1);
    CHECK_MEM(verify + sizeof(verify) - sizeof(cookie), cookie, sizeof(cookie));
    client_close(c);
}

TEST test_flood(void)
{
    uint8_t data[DATAGRAM];
    struct client *c = client_open(6000);
    SSL_set_mtu(c->ssl, 1400);
    size_t len = first_hello(c, data);
    uint64_t before = counted(CTR_dtls_hellos);

    test_begin("10,000 hellos without cookie leave nothing, and no answer is longer (X28)");
    for (unsigned i = 0; i < 10000; i++) {
        struct fake_sent sent;
        c->addr.port = (uint16_t)(10000 + i);
        deliver(c, data, len);
        CHECK(fake_io_take(k.io, &sent) && sent.len <= len && sent.len == DTLS_VERIFY_LEN);
    }
    CHECK_EQ(counted(CTR_dtls_hellos), before + 10000);
    CHECK_EQ(k.worker.shard.associations.slab.touched, 0);
    CHECK_EQ(handshakes_under_way(k.limits.streams.handshakes), 0);

    test_begin("a source has its share of them");
    ratelimit_set(&k.limits.unauthenticated, 1, 1);
    kit_turn(&k, 5000);
    deliver(c, data, len);
    deliver(c, data, len);
    CHECK_EQ(counted(CTR_dtls_hellos), before + 10001);
    CHECK(counted(CTR_over_rate) >= 1);
    ratelimit_set(&k.limits.unauthenticated, 0, 0);
    end_all();

    test_begin("what is no hello, of who has no session, is dropped (X98)");
    uint64_t unknown = counted(CTR_dtls_unknown);
    uint8_t record[40] = {23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 27};
    deliver(c, record, sizeof(record));
    CHECK_EQ(counted(CTR_dtls_unknown), unknown + 1);
    deliver(c, record, sizeof(record) - 1);
    CHECK_EQ(counted(CTR_dtls_bad), 1);
    struct fake_sent sent;
    CHECK(!fake_io_take(k.io, &sent));
    client_close(c);
}

/* The cookie of one address is none at another, nor an old one. */
TEST test_cookie(void)
{
    uint8_t data[DATAGRAM];
    struct client *c = client_open(6001);
    struct net n = {0};
    SSL_set_mtu(c->ssl, 1400);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    to_client(c, &n);
    size_t len = first_hello(c, data);
    struct dtls_hello h;
    test_begin("a cookie is good at its address, for its hello, for half a minute");
    CHECK(dtls_hello_read(data, len, &h) == DTLS_HELLO && h.cookie_len == DTLS_COOKIE_LEN);
    uint64_t asked = counted(CTR_dtls_hellos);
    c->addr.port = 6002;
    deliver(c, data, len);
    c->addr.port = 6001;
    data[30] ^= 1; /* of the random */
    deliver(c, data, len);
    data[30] ^= 1;
    k.worker.shard.time.wall_s += 31;
    deliver(c, data, len);
    CHECK_EQ(counted(CTR_dtls_hellos), asked + 3);
    CHECK_EQ(live(), 0);
    k.worker.shard.time.wall_s -= 31;
    deliver(c, data, len);
    CHECK_EQ(live(), 1);
    CHECK_EQ(counted(CTR_dtls_hellos), asked + 3);
    client_close(c);
    end_all();
}

/* ---------------------------------------------------------------------------------- handshakes */

TEST test_handshake(void)
{
    struct net n = {0};
    struct client *c = client_open(6010);
    test_begin("a handshake, a request, the end");
    CHECK(shake(c, &n, 0));
    CHECK(SSL_version(c->ssl) == DTLS1_2_VERSION);
    CHECK_STR(SSL_get_cipher_name(c->ssl), "ECDHE-ECDSA-AES128-GCM-SHA256");
    CHECK(n.longest <= DTLS_MTU);
    CHECK(speaks(c) && speaks(c));
    CHECK_EQ(handshakes_under_way(k.limits.streams.handshakes), 0);
    SSL_shutdown(c->ssl);
    uint8_t data[DATAGRAM];
    CHECK_EQ(read_next(c, data, sizeof(data)), 0);
    CHECK(c->closed && !open_of(c));
    CHECK_EQ(live(), 0);
    client_close(c);
}

TEST test_loss(void)
{
    test_begin("any one datagram of a handshake may be lost, and it is done");
    for (unsigned i = 0; i < 16; i++) {
        struct net n = {.lost = 1u << i};
        struct client *c = client_open((uint16_t)(6100 + i));
        CHECK(shake(c, &n, 8));
        struct association *shaking;
        for (int s = 0; s < 8 && !standing(c, &shaking); s++)
            lets_time_pass(c);
        CHECK(speaks(c));
        client_close(c);
        end_all();
    }
    /* What is lost four times is said again after 1, 2, 4 and 8 s. OpenSSL begins to number the
     * server's records at 1 from 3.2 on, not at what the client has reached: after as many answers
     * to hellos the last record of the first flight passes for one of them, and comes a second
     * later. */
    enum { PATIENCE = 1 + 2 + 4 + 8 + (OPENSSL_VERSION_NUMBER >= 0x30200000L ? 1 : 0) };
    test_begin("every second one too, and the others in the wrong order");
    for (unsigned i = 0; i < 4; i++) {
        struct net n = {.lost = (uint32_t[]){0x55, 0xaa, 0x924, 0}[i], .swap = i % 2 == 1};
        struct client *c = client_open((uint16_t)(6200 + i));
        CHECK(shake(c, &n, PATIENCE));
        CHECK(speaks(c));
        client_close(c);
        end_all();
    }
}

/* The last flight of the server is lost: the client says his again, and gets it again. */
TEST test_last_flight(void)
{
    test_begin("the server's last flight is said again when the client says his again");
    struct net n = {0};
    struct client *c = client_open(6250);
    while (!open_of(c)) {
        SSL_do_handshake(c->ssl);
        to_server(c, &n);
        if (open_of(c))
            break;
        to_client(c, &n);
    }
    struct fake_sent sent;
    while (fake_io_take(k.io, &sent))
        ;
    CHECK(SSL_do_handshake(c->ssl) != 1);
    CHECK(shake(c, &n, 3));
    CHECK(speaks(c));
    client_close(c);
    end_all();
}

/* In the clear anybody may speak for him; encrypted, nobody. */
TEST test_short(void)
{
    test_begin("encrypted records too short to be any do nothing to a handshake (X98)");
    struct net n = {0};
    struct client *c = client_open(6255);
    for (int i = 0; i < 3; i++) {
        SSL_do_handshake(c->ssl);
        to_server(c, &n);
        to_client(c, &n);
        for (uint8_t len = 0; len < 24; len++) {
            uint8_t record[13 + 24] = {22, 0xfe, 0xfd, 0, 1, [12] = len};
            deliver(c, record, 13 + len);
        }
        settle();
    }
    CHECK(shake(c, &n, 3));
    CHECK(speaks(c));
    client_close(c);
    end_all();
}

TEST test_late(void)
{
    test_begin("a handshake that is not done in time is given up");
    uint64_t late = counted(CTR_handshakes_late);
    struct net n = {0};
    struct client *c = client_open(6260);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    to_client(c, &n);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    CHECK_EQ(live(), 1);
    CHECK_EQ(handshakes_under_way(k.limits.streams.handshakes), 1);
    end_all();
    CHECK_EQ(counted(CTR_handshakes_late), late + 1);
    CHECK_EQ(handshakes_under_way(k.limits.streams.handshakes), 0);
    client_close(c);
}

TEST test_version(void)
{
    test_begin("DTLS 1.0 is refused");
    uint64_t before = counted(CTR_handshakes_version);
    struct net n = {0};
    struct client *c = client_open(6270);
    SSL_set_security_level(c->ssl, 0);
    SSL_set_cipher_list(c->ssl, "ALL:@SECLEVEL=0");
    SSL_set_min_proto_version(c->ssl, DTLS1_VERSION);
    SSL_set_max_proto_version(c->ssl, DTLS1_VERSION);
    CHECK(!shake(c, &n, 1));
    CHECK_EQ(counted(CTR_handshakes_version), before + 1);
    CHECK_EQ(live(), 0);
    client_close(c);
}

/* --------------------------------------------------------------------------------- starting over
 */

TEST test_over(void)
{
    struct net n = {0};
    struct client *c = connected(6300);
    struct association *first = open_of(c), *shaking;
    SSL *old = c->ssl;
    c->ssl = NULL;
    client_anew(c);
    test_begin("a client starts over: what stands is not touched before its handshake is done");
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    CHECK_EQ(live(), 1); /* asked for a cookie, and nothing else */
    to_client(c, &n);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    CHECK(standing(c, &shaking) == first && shaking);
    SSL *new = c->ssl;
    c->ssl = old;
    static struct fake_sent flight[16];
    unsigned count = 0;
    while (count < 16 && fake_io_take(k.io, &flight[count]))
        count++;
    CHECK(speaks(c)); /* the one before, in the middle of it */
    c->ssl = new;
    for (unsigned i = 0; i < count; i++)
        CHECK(send(c->net_end, flight[i].data, flight[i].len, 0) > 0);
    CHECK(shake(c, &n, 2));
    CHECK(standing(c, &shaking) != NULL && !shaking);
    CHECK_EQ(counted(CTR_dtls_replaced), 1);
    CHECK_EQ(live(), 1);
    CHECK(speaks(c));

    test_begin("one that begins a third before the second is done gives that up");
    client_anew(c);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    to_client(c, &n);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    CHECK_EQ(live(), 2);
    while (count && fake_io_take(k.io, &flight[0]))
        ;
    client_anew(c);
    CHECK(shake(c, &n, 3));
    CHECK_EQ(live(), 1);
    CHECK(speaks(c));
    SSL_free(old);
    client_close(c);
    end_all();
}

/* Records of any kind, in the clear and not, of random bytes. */
static void forge(const struct client *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t junk[80];
        size_t len = 13 + (size_t)rand() % 60;
        for (size_t j = 0; j < len; j++)
            junk[j] = (uint8_t)rand();
        junk[0] = (uint8_t)(20 + i % 6);
        junk[1] = 0xfe;
        junk[2] = 0xfd;
        store16(junk + 3, (uint16_t)(i % 3));
        store16(junk + 11, (uint16_t)(len - 13));
        deliver(c, junk, len);
        if (!CHECK(open_of(c))) {
            test_dump("ended by", junk, len);
            return;
        }
    }
    settle();
}

TEST test_forged(void)
{
    struct client *c = connected(6310);
    test_begin("what others send from his address does nothing to a session (X98)");
    forge(c, 20000);
    CHECK(speaks(c));
    test_begin("a record is taken once");
    uint64_t bindings = counted(CTR_bindings);
    static const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 7};
    uint8_t data[DATAGRAM];
    CHECK(SSL_write(c->ssl, request, sizeof(request)) == sizeof(request));
    ssize_t len = recv(c->net_end, data, sizeof(data), 0);
    for (int i = 0; i < 5; i++)
        deliver(c, data, (size_t)len);
    CHECK_EQ(counted(CTR_bindings), bindings + 1);
    read_next(c, data, sizeof(data));

    test_begin("a client may not negotiate again (X96)");
    SSL_renegotiate(c->ssl);
    struct net n = {0};
    shake(c, &n, 2);
    CHECK_EQ(counted(CTR_handshakes), counted(CTR_dtls_sessions));
    CHECK(live() <= 1);
    client_close(c);
    end_all();
}

/* ------------------------------------------------------------------------------ limits and ends */

TEST test_limits(void)
{
    test_begin("a source has so many without allocation, and no more");
    uint64_t refused = counted(CTR_dtls_refused);
    crowd_set(&k.limits.streams.crowd, 3);
    struct client *c[4];
    for (unsigned i = 0; i < 3; i++)
        c[i] = connected((uint16_t)(6400 + i));
    struct net n = {0};
    c[3] = client_open(6403);
    CHECK(!shake(c[3], &n, 1));
    CHECK(counted(CTR_dtls_refused) > refused);
    CHECK_EQ(live(), 3);
    for (unsigned i = 0; i < 4; i++)
        client_close(c[i]);
    test_begin("one that says nothing is ended, and its place is free");
    uint64_t slow = counted(CTR_connections_slow);
    end_all();
    CHECK_EQ(counted(CTR_connections_slow), slow + 3);
    CHECK_EQ(atomic_load(&k.limits.streams.crowd.all), 0);
    crowd_set(&k.limits.streams.crowd, 1000);

    test_begin("one that is silent is told that it ends");
    uint64_t idle = counted(CTR_connections_idle);
    c[0] = connected(6410);
    CHECK(speaks(c[0]));
    for (int i = 0; i < 14; i++)
        kit_turn(&k, 5000);
    uint8_t data[DATAGRAM];
    CHECK_EQ(read_next(c[0], data, sizeof(data)), 0);
    CHECK(c[0]->closed);
    CHECK_EQ(counted(CTR_connections_idle), idle + 1);
    client_close(c[0]);
    end_all();
}

TEST test_stop(void)
{
    test_begin("stopped with handshakes under way, nothing is left");
    uint8_t data[DATAGRAM];
    struct client *c = client_open(6500);
    struct net n = {0};
    SSL_set_mtu(c->ssl, 1400);
    SSL_do_handshake(c->ssl);
    to_server(c, &n);
    to_client(c, &n);
    size_t len = first_hello(c, data);
    deliver(c, data, len); /* with a thread now, or waiting for one, or back */
    client_close(c);
}

/* ------------------------------------------------------------------------------------ its cost */

static long long heap(void)
{
    return (long long)mallinfo2().uordblks; /* 0 under a sanitizer, which has one of its own */
}

/* OpenSSL keeps 16 KB of each for what may have to be said again; from 3.2 on also the buffers
 * beneath: 22 KB of the handshake, 8 KB and 15 KB of two BIOs, 4 KB for each of its record layers.
 */
TEST test_memory(void)
{
    enum { N = 40, MOST_KB = OPENSSL_VERSION_NUMBER >= 0x30200000L ? 76 : 40 };
    struct client *c[N];
    test_begin("an idle session costs at most 40 KB of heap, or 76 KB with OpenSSL 3.2");
    struct client *warm = connected(6600);
    long long before = heap();
    for (unsigned i = 0; i < N; i++) {
        c[i] = connected((uint16_t)(6601 + i));
        CHECK(speaks(c[i]));
    }
    long long busy = heap();
    kit_turn(&k, 5000);
    kit_turn(&k, 5000);
    long long idle = heap();
    for (unsigned i = 0; i < N; i++)
        client_close(c[i]);
    long long clients = idle - heap();
    if (before) {
        printf("dtls: an idle session: %lld bytes of heap, a busy one %lld\n",
               (idle - before - clients) / N, (busy - before - clients) / N);
        CHECK((idle - before - clients) / N <= MOST_KB * 1024);
    }
    client_close(warm);
    end_all();
}

int main(void)
{
    struct cert_made *made =
        cert_make("EC", "turn.example.org", "DNS:turn.example.org", NULL, -1, 30);
    struct tls_pair pair = cert_pair(made->cert_pem, made->key_pem);
    static const uint8_t secret[TLS_SECRET_LEN] = "the secret that all relays have";
    char why[TLS_WHY_MAX];
    unsigned bad;
    struct tls_wanted wanted = {
        .pairs = &pair, .n = 1, .secret = secret, .threads = 1, .now_s = time(NULL)};
    store = tls_store_load(&wanted, &bad, why);
    kit_start(&k);
    crowd_init(&k.limits.streams.crowd, 1000, 1000);
    k.limits.streams.handshakes = handshakes_start(1, 100, NS_PER_S);
    if (!CHECK(store && k.listener && k.limits.streams.handshakes))
        return test_end("dtls");
    k.listener->certs = tls_store_hold(store);
    k.listener->secured = true;

    test_hello();
    test_flood();
    test_cookie();
    test_handshake();
    test_loss();
    test_last_flight();
    test_short();
    test_late();
    test_version();
    test_over();
    test_forged();
    test_limits();
    test_memory();
    test_stop();
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    CHECK(handshakes_stop(k.limits.streams.handshakes, &until));
    kit_stop(&k);
    tls_store_release(store);
    cert_unmake(made);
    return test_end("dtls");
}
