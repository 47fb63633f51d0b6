/*
 * What a DTLS 1.2 session in a worker lives through, against OpenSSL's client: a client that starts
 * over, records that are forged, limits and ends, and what an idle session costs. Threats X96, X97,
 * X98.
 */
#include <malloc.h>

#include "dtls_kit.h"

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
    struct cert_made *made = dtls_start();
    test_over();
    test_forged();
    test_limits();
    test_memory();
    test_stop();
    dtls_stop(made);
    return test_end("dtls_session");
}
