/*
 * DTLS by OpenSSL. See dtls.h.
 */
#include "dtls.h"

#include <openssl/err.h>
#include <sys/time.h>

#include "dtls_hello.h"
#include "inside.h"

struct tls_session *dtls_open(struct tls_store *store, unsigned thread, uint32_t now_s)
{
    struct tls_session *s = session_open(store, thread, now_s, TLS_DATAGRAMS);
    if (s)
        SSL_set_mtu(s->ssl, DTLS_MTU);
    return s;
}

/* DTLSv1_listen lets the handshake go on with the message numbers that the client has reached. The
 * records go on with the client's numbers too in OpenSSL 3.0 and 3.1, and begin at 1 since 3.2: a
 * client whose hello was answered more than once may then take one for a record it has, and ask
 * again. */
enum tls_result dtls_begin(struct tls_session *s, const uint8_t *data, size_t len,
                           struct wbytes *out)
{
    struct bytes in = bytes_of(data, len);
    BIO_ADDR *nobody = BIO_ADDR_new();
    session_lend(s, &in, out);
    int ret = nobody ? DTLSv1_listen(s->ssl, nobody) : -1;
    BIO_ADDR_free(nobody);
    enum tls_result r = TLS_FAILED;
    if (ret > 0)
        r = session_result(s, SSL_do_handshake(s->ssl));
    else
        session_fail(s);
    session_lend(s, NULL, NULL);
    return r;
}

/* What a cipher adds to an encrypted record, at least. */
static size_t least_sealed(const struct tls_session *s)
{
    enum { NONCE = 8, TAG = 16 }; /* RFC 5288 3, RFC 7905 2 */
    const SSL_CIPHER *c = SSL_is_init_finished(s->ssl) ? SSL_get_current_cipher(s->ssl) : NULL;
    bool implicit = c && SSL_CIPHER_get_cipher_nid(c) == NID_chacha20_poly1305;
    return implicit ? TAG : NONCE + TAG;
}

/*
 * The bytes of the records that may be given to OpenSSL: those before the first that is cut short,
 * or shorter than anything encrypted can be. OpenSSL ignores what is forged, but such a record ends
 * its session, and anybody could send one from the client's address.
 */
static size_t sound(const struct tls_session *s, const uint8_t *data, size_t len)
{
    size_t at = 0, least = DTLS_RECORD_HEAD + least_sealed(s);
    struct dtls_record r;
    while (at < len && dtls_record_read(data + at, len - at, &r) &&
           (r.epoch == 0 || r.size >= least))
        at += r.size;
    return at;
}

enum tls_result dtls_handshake(struct tls_session *s, const uint8_t *data, size_t len,
                               struct wbytes *out)
{
    struct bytes in = bytes_of(data, sound(s, data, len));
    if (s->broken)
        return TLS_FAILED;
    if (len && !bytes_left(&in))
        return TLS_MORE;
    session_lend(s, &in, out);
    int ret = len ? 1 : (int)DTLSv1_handle_timeout(s->ssl);
    if (ret >= 0)
        ret = SSL_do_handshake(s->ssl);
    enum tls_result r = session_result(s, ret);
    session_lend(s, NULL, NULL);
    if (r == TLS_OK)
        session_let_go_of_store(s);
    return r;
}

uint64_t dtls_wait_ns(const struct tls_session *s)
{
    struct timeval left;
    if (DTLSv1_get_timeout(s->ssl, &left) != 1)
        return UINT64_MAX;
    return (uint64_t)left.tv_sec * 1000000000u + (uint64_t)left.tv_usec * 1000u;
}

enum tls_result dtls_read(struct tls_session *s, const uint8_t *data, size_t len, uint8_t *plain,
                          size_t cap, size_t *got, struct wbytes *out)
{
    struct bytes in = bytes_of(data, sound(s, data, len));
    *got = 0;
    if (s->broken)
        return TLS_FAILED;
    session_lend(s, &in, out);
    enum tls_result r = TLS_FAILED;
    if (SSL_alloc_buffers(s->ssl) == 1)
        r = session_result(s, SSL_read_ex(s->ssl, plain, cap, got));
    session_lend(s, NULL, NULL);
    return r;
}

bool dtls_write(struct tls_session *s, const uint8_t *plain, size_t len, struct wbytes *out)
{
    size_t n = 0;
    if (s->broken)
        return false;
    session_lend(s, NULL, out);
    bool ok = SSL_alloc_buffers(s->ssl) == 1 && SSL_write_ex(s->ssl, plain, len, &n) == 1;
    if (!ok)
        session_fail(s);
    session_lend(s, NULL, NULL);
    return ok;
}

void dtls_rest(struct tls_session *s)
{
    SSL_free_buffers(s->ssl);
}
