/*
 * A session over the caller's buffers: OpenSSL reads from and writes to whatever the caller has
 * given for the length of a call, by a BIO that holds nothing. See tls.h.
 */
#include <openssl/err.h>
#include <stdlib.h>

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

/* ------------------------------------------------------------------------------------ the BIO */

static int bio_read(BIO *bio, char *data, size_t len, size_t *got)
{
    struct bytes *in = ((struct tls_session *)BIO_get_data(bio))->in;
    const uint8_t *p;
    size_t n = in ? MIN(len, bytes_left(in)) : 0;
    BIO_clear_retry_flags(bio);
    if (n == 0 || !bytes_take(in, n, &p)) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(data, p, n);
    *got = n;
    return 1;
}

/* Without room: an error that ends the session, for part of a record must not be lost. What is
 * written at once is one datagram, where there are such. */
static int bio_write(BIO *bio, const char *data, size_t len, size_t *written)
{
    const struct tls_session *s = BIO_get_data(bio);
    struct wbytes *out = s->out;
    BIO_clear_retry_flags(bio);
    if (!out)
        return 0;
    if (s->kind == TLS_DATAGRAMS)
        wbytes_put16(out, (uint16_t)len);
    wbytes_put(out, data, len);
    *written = len;
    return !out->overflow;
}

static long bio_ctrl(BIO *bio, int what, long number, void *p)
{
    (void)bio;
    (void)number;
    (void)p;
    return what == BIO_CTRL_FLUSH;
}

/* Made once, for it cannot fail later. */
static BIO_METHOD *bio_method;

__attribute__((constructor)) static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "caller's buffers");
    if (!bio_method)
        abort();
    BIO_meth_set_read_ex(bio_method, bio_read);
    BIO_meth_set_write_ex(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

__attribute__((destructor)) static void free_bio_method(void)
{
    BIO_meth_free(bio_method);
}

/* ----------------------------------------------------------------------------------- contexts */

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

static int on_name(SSL *ssl, int *alert, void *ctx)
{
    const struct tls_session *s = SSL_get_app_data(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    (void)ctx;
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_set_SSL_CTX(ssl, store_context(s->store, s->thread, s->kind, name));
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *session_context(enum tls_kind kind)
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
    SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
    ticket_install(ctx);
    if (datagrams)
        datagrams_install(ctx);
    if (SSL_CTX_set_min_proto_version(ctx, datagrams ? DTLS1_2_VERSION : TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_cipher_list(ctx, ciphers_12) == 1 &&
        SSL_CTX_set_ciphersuites(ctx, ciphers_13) == 1 &&
        SSL_CTX_set1_groups_list(ctx, groups) == 1 &&
        SSL_CTX_set_max_send_fragment(ctx, datagrams ? DTLS_PLAIN_MAX : TLS_PLAIN_MAX) == 1)
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

/* ------------------------------------------------------------------------------------- failing */

struct reason {
    int code;
    enum tls_failure failure;
};

static const struct reason reasons[] = {
    {SSL_R_WRONG_VERSION_NUMBER, TLS_FAIL_NOT_TLS},
    {SSL_R_HTTP_REQUEST, TLS_FAIL_NOT_TLS},
    {SSL_R_HTTPS_PROXY_REQUEST, TLS_FAIL_NOT_TLS},
    {SSL_R_UNSUPPORTED_PROTOCOL, TLS_FAIL_VERSION},
    {SSL_R_VERSION_TOO_LOW, TLS_FAIL_VERSION},
    {SSL_R_NO_SHARED_CIPHER, TLS_FAIL_CIPHER},
    {SSL_R_NO_SUITABLE_KEY_SHARE, TLS_FAIL_CIPHER},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, TLS_FAIL_CIPHER},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, TLS_FAIL_CIPHER},
    {SSL_R_NO_SHARED_GROUPS, TLS_FAIL_CIPHER},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TLS_FAIL_NO_CERT},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, TLS_FAIL_CERT},
};

static enum tls_failure reason_of(unsigned long err)
{
    int code = ERR_GET_REASON(err);
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (reasons[i].code == code)
            return reasons[i].failure;
    return code >= SSL_AD_REASON_OFFSET && ERR_GET_LIB(err) == ERR_LIB_SSL ? TLS_FAIL_REFUSED
                                                                           : TLS_FAIL_PROTOCOL;
}

enum tls_result session_fail(struct tls_session *s)
{
    s->broken = true;
    if (s->failure == TLS_FAIL_NONE)
        s->failure = reason_of(ERR_peek_error());
    ERR_clear_error();
    return TLS_FAILED;
}

enum tls_result session_result(struct tls_session *s, int ret)
{
    if (ret > 0)
        return TLS_OK;
    switch (SSL_get_error(s->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_CLOSED;
    default:
        return session_fail(s);
    }
}

enum tls_failure tls_failure(const struct tls_session *s)
{
    return s->failure;
}

/* ------------------------------------------------------------------------------------ the life */

struct tls_session *session_open(struct tls_store *store, unsigned thread, uint32_t now_s,
                                 enum tls_kind kind)
{
    struct tls_session *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    *s = (struct tls_session){
        .store = tls_store_hold(store), .thread = thread, .now_s = now_s, .kind = kind};
    s->ssl = SSL_new(store_context(store, thread, kind, NULL));
    BIO *bio = s->ssl ? BIO_new(bio_method) : NULL;
    if (!bio) {
        tls_free(s);
        return NULL;
    }
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    SSL_set_app_data(s->ssl, s);
    SSL_set_accept_state(s->ssl);
    return s;
}

struct tls_session *tls_open(struct tls_store *store, unsigned thread, uint32_t now_s)
{
    return session_open(store, thread, now_s, TLS_STREAM);
}

void session_let_go_of_store(struct tls_session *s)
{
    tls_store_release(s->store);
    s->store = NULL;
}

void tls_free(struct tls_session *s)
{
    if (!s)
        return;
    SSL_free(s->ssl);
    session_let_go_of_store(s);
    free(s);
}

void session_lend(struct tls_session *s, struct bytes *in, struct wbytes *out)
{
    s->in = in;
    s->out = out;
    ERR_clear_error();
}

enum tls_result tls_handshake(struct tls_session *s, struct bytes *in, struct wbytes *out)
{
    if (s->broken)
        return TLS_FAILED;
    session_lend(s, in, out);
    enum tls_result r = session_result(s, SSL_do_handshake(s->ssl));
    session_lend(s, NULL, NULL);
    if (r == TLS_OK)
        session_let_go_of_store(s);
    return r;
}

enum tls_result tls_read(struct tls_session *s, struct bytes *in, uint8_t *plain, size_t cap,
                         size_t *len, struct wbytes *out)
{
    *len = 0;
    if (s->broken)
        return TLS_FAILED;
    session_lend(s, in, out);
    enum tls_result r = session_result(s, SSL_read_ex(s->ssl, plain, cap, len));
    session_lend(s, NULL, NULL);
    return r;
}

bool tls_write(struct tls_session *s, const uint8_t *plain, size_t len, struct wbytes *out)
{
    bool ok = !s->broken;
    session_lend(s, NULL, out);
    while (ok && len > 0) {
        size_t n = 0;
        ok = SSL_write_ex(s->ssl, plain, MIN(len, (size_t)TLS_PLAIN_MAX), &n) == 1;
        plain += n;
        len -= n;
    }
    session_lend(s, NULL, NULL);
    if (!ok)
        session_fail(s);
    return ok;
}

void tls_close(struct tls_session *s, struct wbytes *out)
{
    if (s->broken)
        return;
    session_lend(s, NULL, out);
    if (s->kind == TLS_DATAGRAMS)
        SSL_alloc_buffers(s->ssl); /* it may be at rest */
    SSL_shutdown(s->ssl);
    session_lend(s, NULL, NULL);
    s->broken = true;
    ERR_clear_error();
}
