/*
 * Handshakes on threads of their own: done, with what came behind, refused, late,
 * left, too many, and stopped while under way. Threats X97.
 */
#include "handshake.h"

#include <stdlib.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "certs.h"
#include "clock.h"

#include "test.h"

enum { MANY = 200 };

static struct cert_made *made;
static struct tls_store *store;
static int bell;

static void ring(void *ctx)
{
    uint64_t one = 1;
    (void)ctx;
    if (write(bell, &one, sizeof(one)) != sizeof(one)) /* another thread: not for it to CHECK */
        abort();
}

static struct handshake_home home = {.wake = ring};

/* The next that comes home; NULL if none does for a long time. */
static struct handshake *come_home(void)
{
    static struct post *waiting;
    if (!waiting)
        waiting = posts_take(&home.arrived);
    while (!waiting) {
        struct pollfd p = {.fd = bell, .events = POLLIN};
        uint64_t rings;
        if (poll(&p, 1, 20000) != 1 || read(bell, &rings, sizeof(rings)) < 0)
            return NULL;
        waiting = posts_take(&home.arrived);
    }
    struct post *p = waiting;
    waiting = p->next;
    return container_of(p, struct handshake, post);
}

static void stop(struct handshakes *h)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    CHECK(handshakes_stop(h, &until));
}

/* Hands one end of a new connection over, from which `first` can be read; returns the other. */
static int begin(struct handshakes *h, const void *first, size_t len, bool expected)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct handshake *s = calloc(1, sizeof(*s));
    s->home = &home;
    s->fd = fds[0];
    if (len)
        CHECK(write(fds[1], first, len) == (ssize_t)len);
    bool begun = handshakes_begin(h, s, store, 1000000);
    CHECK_EQ(begun, expected);
    if (!begun) {
        close(fds[0]);
        free(s);
    }
    return fds[1];
}

static void end(struct handshake *s, int client)
{
    close(s->fd);
    tls_free(s->tls);
    free(s->in.data);
    free(s);
    close(client);
}

/* A client on a socket; what it sends goes through `first` where that is not NULL. */
static SSL *client_of(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    return ssl;
}

static bool connects(SSL *ssl, int fd)
{
    int ret;
    while ((ret = SSL_do_handshake(ssl)) != 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (SSL_get_error(ssl, ret) != SSL_ERROR_WANT_READ || poll(&p, 1, 20000) != 1)
            return false;
    }
    return true;
}

static void what_comes_behind(SSL_CTX *ctx)
{
    test_begin("done, and what came behind it is kept");
    static uint8_t net[8192];
    uint8_t plain[64];
    struct handshakes *h = handshakes_start(2, 10, 10 * NS_PER_S);
    int client = begin(h, NULL, 0, true);
    SSL *ssl = client_of(ctx, client);
    CHECK(connects(ssl, client));
    CHECK_EQ(SSL_write(ssl, "at once", 7), 7);
    struct handshake *s = come_home();
    CHECK_EQ(s->end, HANDSHAKE_DONE);
    /* Either it was read with the end of the handshake, or it is still in the socket. */
    if (s->in.len)
        memcpy(net, s->in.data, s->in.len);
    ssize_t more = recv(s->fd, net + s->in.len, sizeof(net) - s->in.len, MSG_DONTWAIT);
    struct bytes in = bytes_of(net, s->in.len + (size_t)MAX(more, 0));
    struct wbytes out = wbytes_of(net + 4096, sizeof(net) - 4096);
    size_t n;
    CHECK_EQ(tls_read(s->tls, &in, plain, sizeof(plain), &n, &out), TLS_OK);
    CHECK_BYTES(plain, n, "at once", 7);
    SSL_free(ssl);
    end(s, client);
    CHECK_EQ(handshakes_under_way(h), 0);
    stop(h);
}

static void failures(void)
{
    test_begin("what is no handshake, and who leaves");
    struct handshakes *h = handshakes_start(1, 10, 10 * NS_PER_S);
    int client = begin(h, "\x16 is not enough to be TLS", 24, true);
    struct handshake *s = come_home();
    CHECK_EQ(s->end, HANDSHAKE_FAILED);
    CHECK(tls_failure(s->tls) != TLS_FAIL_NONE);
    end(s, client);

    client = begin(h, "\x16\x03", 2, true);
    shutdown(client, SHUT_WR);
    s = come_home();
    CHECK_EQ(s->end, HANDSHAKE_GONE);
    end(s, client);
    stop(h);

    test_begin("half handshakes end when their time is over (X97)");
    h = handshakes_start(2, MANY, 50 * NS_PER_MS);
    int clients[MANY];
    for (int i = 0; i < MANY; i++)
        clients[i] = begin(h, "\x16\x03\x01", 3, true);
    for (int i = 0; i < MANY; i++) {
        s = come_home();
        if (!CHECK(s != NULL))
            break;
        CHECK_EQ(s->end, HANDSHAKE_LATE);
        end(s, -1);
    }
    for (int i = 0; i < MANY; i++)
        close(clients[i]);
    CHECK_EQ(handshakes_under_way(h), 0);

    test_begin("no more than allowed at a time (X97)");
    stop(h);
    h = handshakes_start(2, 5, 10 * NS_PER_S);
    for (int i = 0; i < 8; i++)
        clients[i] = begin(h, "\x16\x03\x01", 3, i < 5);
    CHECK_EQ(handshakes_under_way(h), 5);
    test_begin("what is under way ends with the threads");
    stop(h);
    for (int i = 0; i < 8; i++) {
        char byte;
        ssize_t n = recv(clients[i], &byte, 1, MSG_DONTWAIT);
        CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
        close(clients[i]);
    }
}

struct client {
    pthread_t thread;
    SSL_CTX *ctx;
    int fd;
    bool ok;
};

static void *connect_one(void *arg)
{
    struct client *c = arg;
    SSL *ssl = client_of(c->ctx, c->fd);
    c->ok = connects(ssl, c->fd);
    SSL_free(ssl);
    return NULL;
}

static void several(SSL_CTX *ctx)
{
    enum { CLIENTS = 16 };
    test_begin("several at a time, on two threads");
    struct handshakes *h = handshakes_start(2, CLIENTS, 20 * NS_PER_S);
    struct client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.ctx = ctx, .fd = begin(h, NULL, 0, true)};
        CHECK_EQ(pthread_create(&clients[i].thread, NULL, connect_one, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        struct handshake *s = come_home();
        if (!CHECK(s != NULL))
            break;
        CHECK_EQ(s->end, HANDSHAKE_DONE);
        CHECK(s->in.len == 0);
        end(s, -1);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        CHECK(clients[i].ok);
        close(clients[i].fd);
    }
    stop(h);
}

int main(void)
{
    static const uint8_t secret[TLS_SECRET_LEN] = "";
    char why[TLS_WHY_MAX];
    unsigned bad;
    bell = eventfd(0, EFD_NONBLOCK);
    made = cert_make("EC", "turn.example.org", "DNS:turn.example.org", NULL, -1, 30);
    struct tls_pair pair = cert_pair(made->cert_pem, made->key_pem);
    struct tls_wanted wanted = {
        .pairs = &pair, .n = 1, .secret = secret, .threads = 2, .now_s = time(NULL)};
    store = tls_store_load(&wanted, &bad, why);
    CHECK(store != NULL);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    what_comes_behind(ctx);
    failures();
    several(ctx);
    SSL_CTX_free(ctx);
    tls_store_release(store);
    cert_unmake(made);
    close(bell);
    return test_end("handshake");
}
