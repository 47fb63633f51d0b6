/*
 * TLS over our own buffers against OpenSSL's client: versions, ciphers, names, tickets, ALPN, what
 * is wrong with certificates, records cut anywhere, and what an idle session costs.
 * Threats X95, X96, X97, X99.
 */
#include "tls.h"

#include <malloc.h>
#include <openssl/err.h>
#include <time.h>

#include "certs.h"

#include "test.h"

enum { DAY_S = 86400, NET = 256 * 1024 };

/* ------------------------------------------------------------------------------- what it costs */

/* Bytes that are out on the heap of malloc; 0 under a sanitizer, which has one of its own. */
static long long heap(void)
{
    return (long long)mallinfo2().uordblks;
}

/* The zero that ends the text is behind what is read of it: TLS_SECRET_LEN bytes. */
static const uint8_t secret[TLS_SECRET_LEN + 1] = "a secret that a fleet has in com";

static struct tls_wanted wanted(const struct tls_pair *pairs, unsigned n)
{
    return (struct tls_wanted){
        .pairs = pairs, .n = n, .secret = secret, .threads = 1, .now_s = time(NULL)};
}

static struct tls_store *load_asking(const struct tls_pair *pairs, unsigned n,
                                     const struct tls_clients *clients, const char *text)
{
    char why[TLS_WHY_MAX];
    unsigned bad;
    struct tls_wanted w = wanted(pairs, n);
    w.clients = clients;
    struct tls_store *s = tls_store_load(&w, &bad, why);
    if (text) {
        if (!CHECK(s == NULL && strstr(why, text)))
            fprintf(stderr, "    %s\n", why);
    } else if (!CHECK(s != NULL)) {
        fprintf(stderr, "    %s\n", why);
    }
    return s;
}

static struct tls_store *load(const struct tls_pair *pairs, unsigned n, const char *text)
{
    return load_asking(pairs, n, NULL, text);
}

/* -------------------------------------------------------------------------------- conversation */

struct talk {
    SSL_CTX *ctx;
    SSL *client;
    BIO *to_client, *from_client;
    struct tls_session *server;
    enum tls_result result;
    uint32_t now_s;
    size_t cut; /* bytes a piece towards the server has; 0: as they come */
    uint8_t rest[NET];
    size_t rest_len; /* towards the server, not taken */
};

static struct talk *talk_open(struct tls_store *store, uint32_t now_s)
{
    struct talk *t = calloc(1, sizeof(*t));
    t->now_s = now_s;
    t->ctx = SSL_CTX_new(TLS_client_method());
    t->client = SSL_new(t->ctx);
    t->to_client = BIO_new(BIO_s_mem());
    t->from_client = BIO_new(BIO_s_mem());
    SSL_set_bio(t->client, t->to_client, t->from_client);
    SSL_set_connect_state(t->client);
    t->server = tls_open(store, 0, now_s);
    return t;
}

static void talk_end(struct talk *t)
{
    SSL_free(t->client);
    SSL_CTX_free(t->ctx);
    tls_free(t->server);
    free(t);
}

/* What the client has to say, as much of it as a piece has, behind what was not taken before. */
static bool client_says(struct talk *t)
{
    size_t want = t->cut ? MIN(t->cut, sizeof(t->rest)) : sizeof(t->rest) - t->rest_len;
    int n = BIO_read(t->from_client, t->rest + t->rest_len, (int)want);
    t->rest_len += (size_t)MAX(n, 0);
    return n > 0;
}

static void server_does(struct talk *t)
{
    static uint8_t net[NET];
    struct bytes in = bytes_of(t->rest, t->rest_len);
    struct wbytes out = wbytes_of(net, TLS_FLIGHT_MAX);
    t->result = tls_handshake(t->server, &in, &out);
    t->rest_len = bytes_left(&in);
    memmove(t->rest, in.p, t->rest_len);
    BIO_write(t->to_client, net, (int)wbytes_len(&out));
}

/* True when both are done. */
static bool handshake(struct talk *t)
{
    int client = 0;
    t->result = TLS_MORE;
    for (int turns = 0; turns < 10000 && (client != 1 || t->result == TLS_MORE); turns++) {
        client = SSL_do_handshake(t->client);
        if (client != 1 && SSL_get_error(t->client, client) != SSL_ERROR_WANT_READ)
            client = -2;
        bool said = client_says(t);
        if (t->result == TLS_MORE && said)
            server_does(t);
        if (client == -2 && !said)
            break;
    }
    ERR_clear_error();
    return client == 1 && t->result == TLS_OK;
}

/* Plain bytes from client to server, whole records at a time as the relay hands them over. */
static size_t to_server(struct talk *t, const void *data, size_t len, uint8_t *got)
{
    static uint8_t net[NET];
    size_t n = 0, total = 0, record;
    if (len)
        SSL_write(t->client, data, (int)len);
    while (client_says(t)) {
        while ((record = tls_record(t->rest, t->rest_len)) && record <= t->rest_len) {
            struct bytes in = bytes_of(t->rest, record);
            struct wbytes out = wbytes_of(net, TLS_RECORD_MAX);
            while ((t->result = tls_read(t->server, &in, got + total, NET - total, &n, &out)) ==
                   TLS_OK)
                total += n;
            t->rest_len -= record;
            memmove(t->rest, t->rest + record, t->rest_len);
            if (t->result != TLS_MORE)
                return total;
        }
    }
    return total;
}

static size_t to_client(struct talk *t, const void *data, size_t len, uint8_t *got)
{
    static uint8_t net[NET];
    struct wbytes out = wbytes_of(net, tls_written(len));
    CHECK(tls_write(t->server, data, len, &out));
    BIO_write(t->to_client, net, (int)wbytes_len(&out));
    size_t total = 0;
    for (int n; (n = SSL_read(t->client, got + total, (int)(NET - total))) > 0;)
        total += (size_t)n;
    return total;
}

static void echo(struct talk *t, size_t len)
{
    static uint8_t data[NET], got[NET];
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + len);
    CHECK_EQ(to_server(t, data, len, got), len);
    CHECK(memcmp(data, got, len) == 0);
    memset(got, 0, len);
    CHECK_EQ(to_client(t, data, len, got), len);
    CHECK(memcmp(data, got, len) == 0);
}

/* --------------------------------------------------------------------------------------- tests */

static struct cert_made *ec, *rsa, *other;
static struct tls_store *store; /* ec and rsa for turn.example.org, other for *.example.net */

static void conversations(void)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const size_t cuts[] = {0, 1, 7, 536};
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 60000};
    test_begin("both versions, records of every size, cut anywhere");
    for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
        for (size_t c = 0; c < ARRAY_SIZE(cuts); c++) {
            struct talk *t = talk_open(store, 1000000);
            SSL_set_min_proto_version(t->client, versions[v]);
            SSL_set_max_proto_version(t->client, versions[v]);
            t->cut = cuts[c];
            CHECK(handshake(t));
            for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                if (cuts[c] != 1 || sizes[i] < 5000)
                    echo(t, sizes[i]);
            CHECK(strstr(SSL_get_cipher_name(t->client), "128_GCM") ||
                  strstr(SSL_get_cipher_name(t->client), "AES128-GCM"));
            talk_end(t);
        }
    }
}

static void end_of_a_session(void)
{
    test_begin("close_notify is said and understood");
    static uint8_t net[TLS_RECORD_MAX], got[64];
    struct talk *t = talk_open(store, 1000000);
    CHECK(handshake(t));
    struct wbytes out = wbytes_of(net, sizeof(net));
    tls_close(t->server, &out);
    BIO_write(t->to_client, net, (int)wbytes_len(&out));
    CHECK(SSL_read(t->client, got, sizeof(got)) == 0);
    CHECK(SSL_get_shutdown(t->client) & SSL_RECEIVED_SHUTDOWN);
    talk_end(t);

    t = talk_open(store, 1000000);
    CHECK(handshake(t));
    SSL_shutdown(t->client);
    CHECK_EQ(to_server(t, NULL, 0, got), 0);
    CHECK_EQ(t->result, TLS_CLOSED);
    talk_end(t);
}

static enum tls_failure failing(struct talk *t)
{
    CHECK(!handshake(t));
    enum tls_failure f = tls_failure(t->server);
    talk_end(t);
    return f;
}

static void refusals(void)
{
    test_begin("versions and ciphers that are not spoken (X95)");
    struct talk *t = talk_open(store, 1000000);
    SSL_set_security_level(t->client, 0);
    SSL_set_min_proto_version(t->client, TLS1_VERSION);
    SSL_set_max_proto_version(t->client, TLS1_1_VERSION);
    CHECK_EQ(failing(t), TLS_FAIL_VERSION);
    static const char *const none[] = {"AES128-SHA",
                                       "ECDHE-ECDSA-AES128-SHA",
                                       "AES128-GCM-SHA256",
                                       "DHE-RSA-AES128-GCM-SHA256",
                                       "NULL",
                                       "aNULL"};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        t = talk_open(store, 1000000);
        SSL_set_security_level(t->client, 0);
        SSL_set_max_proto_version(t->client, TLS1_2_VERSION);
        SSL_set_cipher_list(t->client, none[i]);
        CHECK_EQ(failing(t), TLS_FAIL_CIPHER);
    }
    test_begin("no protocol of ours in ALPN (X99)");
    t = talk_open(store, 1000000);
    SSL_set_alpn_protos(t->client, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    CHECK_EQ(failing(t), TLS_FAIL_ALPN);

    test_begin("no handshake at all");
    static const uint8_t http[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    t = talk_open(store, 1000000);
    memcpy(t->rest, http, sizeof(http));
    t->rest_len = sizeof(http);
    server_does(t);
    CHECK_EQ(t->result, TLS_FAILED);
    CHECK_EQ(tls_failure(t->server), TLS_FAIL_NOT_TLS);
    server_does(t);
    CHECK_EQ(t->result, TLS_FAILED);
    talk_end(t);

    test_begin("a client that does not trust us says so");
    t = talk_open(store, 1000000);
    SSL_set_verify(t->client, SSL_VERIFY_PEER, NULL);
    CHECK_EQ(failing(t), TLS_FAIL_REFUSED);

    test_begin("renegotiation is refused (X96)");
    t = talk_open(store, 1000000);
    SSL_set_max_proto_version(t->client, TLS1_2_VERSION);
    CHECK(handshake(t));
    SSL_renegotiate(t->client);
    SSL_do_handshake(t->client);
    uint8_t got[64];
    to_server(t, NULL, 0, got);
    echo(t, 0);
    talk_end(t);
}

static void tampered(void)
{
    test_begin("a record with one bit wrong ends the session");
    static uint8_t got[NET];
    struct talk *t = talk_open(store, 1000000);
    CHECK(handshake(t));
    SSL_write(t->client, "hello", 5);
    client_says(t);
    t->rest[t->rest_len - 1] ^= 1;
    BIO_write(t->from_client, "", 0);
    struct bytes in = bytes_of(t->rest, t->rest_len);
    struct wbytes out = wbytes_of(got, TLS_RECORD_MAX);
    uint8_t plain[64];
    size_t n;
    CHECK_EQ(tls_read(t->server, &in, plain, sizeof(plain), &n, &out), TLS_FAILED);
    CHECK(wbytes_len(&out) > 0);
    CHECK(!tls_write(t->server, plain, 5, &out));
    talk_end(t);
}

static bool shows(struct tls_store *s, char *name, char *sigalgs, const X509 *cert)
{
    struct talk *t = talk_open(s, 1000000);
    if (name)
        SSL_set_tlsext_host_name(t->client, name);
    if (sigalgs)
        SSL_set1_sigalgs_list(t->client, sigalgs);
    bool ok = handshake(t) && X509_cmp(SSL_get0_peer_certificate(t->client), cert) == 0;
    talk_end(t);
    return ok;
}

static void names(void)
{
    static char rsa_only[] = "RSA-PSS+SHA256:RSA+SHA256";
    test_begin("a certificate by its name (SNI)");
    CHECK(shows(store, "turn.example.org", NULL, ec->cert));
    CHECK(shows(store, "relay.example.net", NULL, other->cert));
    CHECK(shows(store, "a.relay.example.net", NULL, ec->cert));
    CHECK(shows(store, "nobody.example", NULL, ec->cert));
    CHECK(shows(store, NULL, NULL, ec->cert));
    test_begin("ECDSA and RSA side by side");
    CHECK(shows(store, "turn.example.org", rsa_only, rsa->cert));
    CHECK(shows(store, NULL, rsa_only, rsa->cert));
    CHECK(!shows(store, "relay.example.net", rsa_only, other->cert));
}

static void protocols(void)
{
    test_begin("ALPN is answered when asked (RFC 7443)");
    static const struct {
        const char *offered;
        unsigned len;
        const char *chosen;
    } cases[] = {
        {"\x09stun.turn", 10, "stun.turn"},
        {"\x12stun.nat-discovery", 19, "stun.nat-discovery"},
        {"\x02h2\x12stun.nat-discovery\x09stun.turn", 32, "stun.turn"},
        {"", 0, ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct talk *t = talk_open(store, 1000000);
        if (cases[i].len)
            SSL_set_alpn_protos(t->client, (const unsigned char *)cases[i].offered, cases[i].len);
        CHECK(handshake(t));
        const unsigned char *got;
        unsigned len;
        SSL_get0_alpn_selected(t->client, &got, &len);
        CHECK_BYTES(got, len, cases[i].chosen, strlen(cases[i].chosen));
        talk_end(t);
    }
}

/* A ticket of one store, shown to another after so long: was the session resumed? */
static bool resumed(struct tls_store *from, struct tls_store *to, int version, uint32_t later_s)
{
    uint8_t got[64];
    struct talk *t = talk_open(from, 7200000);
    SSL_set_max_proto_version(t->client, version);
    CHECK(handshake(t));
    to_client(t, "x", 1, got); /* reads the ticket */
    SSL_SESSION *session = SSL_get1_session(t->client);
    SSL_set_shutdown(t->client, SSL_SENT_SHUTDOWN); /* or it is taken for broken */
    talk_end(t);
    t = talk_open(to, 7200000 + later_s);
    SSL_set_max_proto_version(t->client, version);
    SSL_set_session(t->client, session);
    CHECK(handshake(t));
    bool ok = SSL_session_reused(t->client);
    echo(t, 100);
    talk_end(t);
    SSL_SESSION_free(session);
    return ok;
}

static void tickets(void)
{
    test_begin("tickets open where the secret is known, for an hour or two (X97)");
    struct tls_pair pair = cert_pair(ec->cert_pem, ec->key_pem);
    struct tls_store *same = load(&pair, 1, NULL);
    char why[TLS_WHY_MAX];
    unsigned bad;
    uint8_t another[TLS_SECRET_LEN] = {1};
    struct tls_wanted w = wanted(&pair, 1);
    w.secret = another;
    struct tls_store *foreign = tls_store_load(&w, &bad, why);
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        CHECK(resumed(store, same, versions[i], 0));
        CHECK(resumed(store, same, versions[i], 3599));
        CHECK(resumed(store, same, versions[i], 3600));
        CHECK(resumed(store, same, versions[i], 7199));
        CHECK(!resumed(store, same, versions[i], 7200));
        CHECK(resumed(store, same, versions[i], (uint32_t)-1)); /* a clock that is behind */
        CHECK(!resumed(store, foreign, versions[i], 0));
    }
    tls_store_release(same);
    tls_store_release(foreign);
}

static void bad_certificates(void)
{
    test_begin("what is wrong with a certificate is said");
    struct cert_made *ca = cert_make("EC", "Test CA", NULL, NULL, -2, 100);
    struct cert_made *old_ca = cert_make("EC", "Old CA", NULL, NULL, -9, -1);
    struct cert_made *good =
        cert_make("EC", "turn.example.org", "DNS:turn.example.org", ca, -1, 30);
    struct cert_made *by_old =
        cert_make("EC", "turn.example.org", "DNS:turn.example.org", old_ca, -1, 30);
    struct cert_made *old = cert_make("EC", "old.example.org", "DNS:old.example.org", NULL, -9, -1);
    struct cert_made *early =
        cert_make("EC", "early.example.org", "DNS:early.example.org", NULL, 1, 9);
    struct cert_made *weak =
        cert_make("WEAK", "weak.example.org", "DNS:weak.example.org", NULL, -1, 9);
    static char chain[32768];
    struct tls_pair p;

    snprintf(chain, sizeof(chain), "%s%s", good->cert_pem, ca->cert_pem);
    p = cert_pair(chain, good->key_pem);
    struct tls_store *s = load(&p, 1, NULL);
    CHECK(s && tls_store_not_after(s) > time(NULL) + 29 * DAY_S &&
          tls_store_not_after(s) < time(NULL) + 31 * DAY_S);
    tls_store_release(s);

    snprintf(chain, sizeof(chain), "%s%s", ca->cert_pem, good->cert_pem);
    p = cert_pair(chain, ca->key_pem);
    load(&p, 1, "certificate 2 of the file did not issue the one before it (Test CA)");
    snprintf(chain, sizeof(chain), "%s%s", by_old->cert_pem, old_ca->cert_pem);
    p = cert_pair(chain, by_old->key_pem);
    load(&p, 1, "the certificate of Old CA expired on 20");
    snprintf(chain, sizeof(chain), "%s%.100s", good->cert_pem, ca->cert_pem);
    p = cert_pair(chain, good->key_pem);
    load(&p, 1, "a certificate behind the first cannot be read");
    p = cert_pair(old->cert_pem, old->key_pem);
    load(&p, 1, "the certificate of old.example.org expired on 20");
    p = cert_pair(early->cert_pem, early->key_pem);
    load(&p, 1, "the certificate of early.example.org is not valid before 20");
    p = cert_pair(weak->cert_pem, weak->key_pem);
    load(&p, 1, "key too small");
    p = cert_pair(good->cert_pem, ca->key_pem);
    load(&p, 1, "the key is not that of the certificate");
    p = cert_pair("nothing", good->key_pem);
    load(&p, 1, "no certificate in PEM is there");
    p = cert_pair(good->cert_pem, good->cert_pem);
    load(&p, 1, "no private key in PEM is there");
    load(&p, 0, "from 1 to 16 certificates");

    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, good->key, EVP_aes_128_cbc(), (const unsigned char *)"word", 4,
                             NULL, NULL);
    cert_text(bio, chain, sizeof(chain));
    p = cert_pair(good->cert_pem, chain);
    load(&p, 1, "the key is encrypted");

    test_begin("of several the bad one is named");
    struct tls_pair both[] = {cert_pair(good->cert_pem, good->key_pem),
                              cert_pair(old->cert_pem, old->key_pem)};
    char why[TLS_WHY_MAX];
    unsigned bad = 0;
    struct tls_wanted w = wanted(both, 2);
    CHECK(!tls_store_load(&w, &bad, why));
    CHECK_EQ(bad, 1);

    test_begin("what was in force stays so when it is over");
    w.now_s = TLS_ANY_TIME;
    struct tls_store *lasting = tls_store_load(&w, &bad, why);
    CHECK(lasting);
    tls_store_release(lasting);
    struct cert_made *all[] = {ca, old_ca, good, by_old, old, early, weak};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        cert_unmake(all[i]);
}

static void replaced(void)
{
    test_begin("a session keeps the certificate it began with");
    struct tls_pair pair = cert_pair(ec->cert_pem, ec->key_pem);
    struct tls_store *first = load(&pair, 1, NULL);
    struct talk *t = talk_open(first, 1000000);
    tls_store_release(first);
    CHECK(handshake(t));
    echo(t, 1000);
    talk_end(t);
}

static void memory(void)
{
    test_begin("an idle session keeps at most 24 KB");
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
        static uint8_t data[NET], net[NET];
        struct talk *t = talk_open(store, 1000000);
        tls_free(t->server);
        SSL_set_max_proto_version(t->client, versions[v]);
        long long kept = -heap();
        t->server = tls_open(store, 0, 1000000);
        kept += heap();
        for (int turns = 0; turns < 10; turns++) {
            SSL_do_handshake(t->client);
            client_says(t);
            kept -= heap();
            if (turns == 0 || t->result == TLS_MORE)
                server_does(t);
            kept += heap();
            if (t->result == TLS_OK && SSL_is_init_finished(t->client))
                break;
        }
        CHECK_EQ(t->result, TLS_OK);
        for (int turns = 0; turns < 4; turns++) {
            SSL_write(t->client, data, 16000);
            client_says(t);
            struct bytes in = bytes_of(t->rest, t->rest_len);
            struct wbytes out = wbytes_of(net, sizeof(net));
            size_t n;
            kept -= heap();
            while (tls_read(t->server, &in, data, sizeof(data), &n, &out) == TLS_OK)
                ;
            CHECK(tls_write(t->server, data, 16000, &out));
            kept += heap();
            t->rest_len = 0;
        }
        printf("tls: %lld bytes in an idle session of TLS 1.%zu\n", kept, v + 2);
        CHECK(kept < 24 * 1024);
        talk_end(t);
    }
}

int main(void)
{
    ec = cert_make("EC", "turn.example.org", "DNS:turn.example.org", NULL, -1, 30);
    rsa = cert_make("RSA", "turn.example.org", "DNS:turn.example.org", NULL, -1, 30);
    other = cert_make("EC", "example.net", "DNS:*.example.net", NULL, -1, 30);
    struct tls_pair pairs[] = {cert_pair(ec->cert_pem, ec->key_pem),
                               cert_pair(rsa->cert_pem, rsa->key_pem),
                               cert_pair(other->cert_pem, other->key_pem)};
    store = load(pairs, ARRAY_SIZE(pairs), NULL);
    conversations();
    end_of_a_session();
    refusals();
    tampered();
    names();
    protocols();
    tickets();
    bad_certificates();
    replaced();
    memory();
    tls_store_release(store);
    cert_unmake(ec);
    cert_unmake(rsa);
    cert_unmake(other);
    return test_end("tls");
}
