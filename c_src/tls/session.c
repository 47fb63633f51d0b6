/*
 * A session over the caller's buffers: OpenSSL reads from and writes to whatever the caller has
 * given for the length of a call, by a BIO that holds nothing. See tls.h.
 */
#include <openssl/err.h>
#include <stdlib.h>

#include "dtls.h"
#include "inside.h"

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
    s->ticket_keys = store_ticket_keys(store, thread);
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
    s->ticket_keys = NULL;
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
