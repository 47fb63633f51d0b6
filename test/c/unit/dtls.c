/*
 * How a DTLS 1.2 session begins in a worker, against OpenSSL's client: cookies that cost nothing,
 * flights that get lost or come in another order, a handshake that is too late. Threats X28, X98.
 */
#include "dtls_hello.h"
#include "dtls_kit.h"

/* -------------------------------------------------------------------------------------- hellos */

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

int main(void)
{
    struct cert_made *made = dtls_start();
    test_hello();
    test_flood();
    test_cookie();
    test_handshake();
    test_loss();
    test_last_flight();
    test_short();
    test_late();
    test_version();
    dtls_stop(made);
    return test_end("dtls");
}
