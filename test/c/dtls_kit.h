/*
 * What the programs about DTLS in a worker share: OpenSSL's client over a net that loses datagrams
 * or swaps them, and the time, which passes when a test says so. Header only, as test.h is, for its
 * checks count.
 */
#ifndef MEERKAT_DTLS_KIT_H
#define MEERKAT_DTLS_KIT_H

#include <openssl/err.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "certs.h"
#include "dtls.h"
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

static inline int bound(struct sockaddr_in *at)
{
    socklen_t len = sizeof(*at);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)at, len) || getsockname(fd, (struct sockaddr *)at, &len))
        abort();
    return fd;
}

/* A fresh session on the sockets that are there. */
static inline void client_anew(struct client *c)
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

static inline struct client *client_open(uint16_t port)
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

static inline void client_close(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->ssl_end);
    close(c->net_end);
    free(c);
}

static inline void deliver(const struct client *c, const void *data, size_t len)
{
    fake_io_deliver(k.io, &k.listener->io, &c->addr, NULL, data, len);
    kit_turn(&k, 0);
}

/* No thread has a handshake, and what they did has been seen. */
static inline void settle(void)
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

static inline bool passes(struct net *n, size_t len)
{
    n->longest = MAX(n->longest, len);
    return n->passed >= 32 || !(n->lost >> n->passed & 1) ? (n->passed++, true)
                                                          : (n->passed++, false);
}

/* All that the client has to say, to the worker. */
static inline bool to_server(struct client *c, struct net *n)
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
static inline bool to_client(struct client *c, struct net *n)
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

static inline bool lets_time_pass(struct client *c)
{
    passed_ms += 1000;
    kit_turn(&k, 1000);
    settle();
    return DTLSv1_handle_timeout(c->ssl) >= 0;
}

/* True when both are done; after so many seconds of silence at most. */
static inline bool shake(struct client *c, struct net *n, int patience)
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

static inline struct association *standing(const struct client *c, struct association **shaking)
{
    const struct flow f = {
        .transport = k.listener->transport->secure, .client = c->addr, .server = k.server};
    return association_find(&k.worker.shard.associations, &f, shaking);
}

static inline struct association *open_of(const struct client *c)
{
    struct association *shaking;
    return standing(c, &shaking);
}

static inline struct client *connected(uint16_t port)
{
    struct net n = {0};
    struct client *c = client_open(port);
    CHECK(shake(c, &n, 0));
    CHECK(open_of(c) != NULL);
    return c;
}

/* What the client reads next; 0: nothing is there. */
static inline size_t read_next(struct client *c, uint8_t *data, size_t cap)
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
static inline bool speaks(struct client *c)
{
    uint8_t answer[DATAGRAM];
    static const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 7};
    size_t n;
    if (SSL_write_ex(c->ssl, request, sizeof(request), &n) != 1)
        return false;
    n = read_next(c, answer, sizeof(answer));
    return n >= 20 && load16(answer) == 0x0101 && memcmp(answer + 4, request + 4, 16) == 0;
}

static inline uint64_t counted(enum counter c)
{
    return kit_count(&k, c);
}

static inline uint32_t live(void)
{
    return k.worker.shard.associations.slab.live;
}

static inline void end_all(void)
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

/* The client's hello as it is; where there is nothing to answer with. */
static inline size_t first_hello(struct client *c, uint8_t *data)
{
    SSL_do_handshake(c->ssl);
    ssize_t len = recv(c->net_end, data, DATAGRAM, 0);
    CHECK(len > DTLS_VERIFY_LEN);
    return (size_t)MAX(len, 0);
}

/* Each has room of its own on the stack. */
#define TEST __attribute__((noinline)) static void

/* --------------------------------------------------------------------------- the whole of it */

/* A worker with a certificate, whose listener takes DTLS, and one thread for handshakes. */
static inline struct cert_made *dtls_start(void)
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
        abort();
    k.listener->certs = tls_store_hold(store);
    k.listener->secured = true;
    return made;
}

static inline void dtls_stop(struct cert_made *made)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    CHECK(handshakes_stop(k.limits.streams.handshakes, &until));
    kit_stop(&k);
    tls_store_release(store);
    cert_unmake(made);
}

#endif
