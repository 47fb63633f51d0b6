/*
 * Contexts of OpenSSL as every session here wants them: protocols, ciphers, ALPN, tickets. They
 * have no certificate yet; store.c adds that, and chooses among contexts by name.
 */
#include "dtls.h"
#include "inside.h"

/* AES-128-GCM first: it is the fastest, and as safe as its place behind AES-256 in OpenSSL's own
 * order is undeserved. No DHE, no CBC, no RSA key exchange (RFC 9325). */
static const char ciphers_12[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                 "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
                                 "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
static const char ciphers_13[] =
    "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
/* Not const: the macro that takes it is not. It is not changed. */
static char groups[] = "X25519:P-256:P-384";

/* Of a message of a handshake that comes in several datagrams: OpenSSL keeps up to ten such. */
enum { MESSAGE_MAX = 16 * 1024 };

/* Whoever opens a session has checked it, and OpenSSL is never asked to make one. */
static int on_cookie(SSL *ssl, const unsigned char *cookie, unsigned len)
{
    (void)ssl;
    (void)cookie;
    (void)len;
    return 1;
}

static void for_datagrams(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_QUERY_MTU);
    SSL_CTX_set_cookie_verify_cb(ctx, on_cookie);
    SSL_CTX_set_max_cert_list(ctx, MESSAGE_MAX);
}

/* ALPN (RFC 7443) is answered where one of our labels is asked for; who wants other protocols alone
 * is no client of ours, perhaps against its will (threat X99). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *offered, unsigned offered_len, void *ctx)
{
    static const unsigned char ours[] = "\x09stun.turn\x12stun.nat-discovery";
    unsigned char *chosen;
    (void)ctx;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, offered, offered_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        ((struct tls_session *)SSL_get_app_data(ssl))->failure = TLS_FAIL_ALPN;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *context_make(enum tls_kind kind)
{
    bool datagrams = kind == TLS_DATAGRAMS;
    SSL_CTX *ctx = SSL_CTX_new(datagrams ? DTLS_server_method() : TLS_server_method());
    if (!ctx)
        return NULL;
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    ticket_install(ctx);
    if (datagrams)
        for_datagrams(ctx);
    if (SSL_CTX_set_min_proto_version(ctx, datagrams ? DTLS1_2_VERSION : TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_cipher_list(ctx, ciphers_12) == 1 &&
        SSL_CTX_set_ciphersuites(ctx, ciphers_13) == 1 &&
        SSL_CTX_set1_groups_list(ctx, groups) == 1 &&
        SSL_CTX_set_max_send_fragment(ctx, datagrams ? DTLS_PLAIN_MAX : TLS_PLAIN_MAX) == 1)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}
