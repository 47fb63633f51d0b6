/*
 * Certificates that clients show: who vouches for them, and that they are checked. OpenSSL checks
 * the chain, the times, and that the certificate may be a client's (RFC 5280 4.2.1.12).
 *
 * A session ticket has the certificate in it, so who comes back by one is known as before. The
 * session id context is a digest of what is asked for here: a ticket of a server that asks for
 * something else costs its client a full handshake.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "inside.h"

/* A client's message with its certificate and those between. */
enum { CHAIN_BYTES_MAX = 32 * 1024 };

/* ------------------------------------------------------------------------------------- reading */

/* Clients are told its name, to choose a certificate by. */
static bool add(struct clients *c, X509 *x, int64_t now_s, char why[TLS_WHY_MAX])
{
    char name[96];
    if (!cert_in_time(x, now_s, why))
        return false;
    if (X509_check_ca(x) == 0) {
        cert_subject(x, name, sizeof(name));
        snprintf(why, TLS_WHY_MAX, "the certificate of %s is not that of an authority", name);
        return false;
    }
    X509_NAME *told = X509_NAME_dup(X509_get_subject_name(x));
    if (told && sk_X509_NAME_push(c->names, told) > 0)
        return X509_STORE_add_cert(c->store, x) == 1 ||
               why_as_said(why, "a certificate cannot be used");
    X509_NAME_free(told);
    return why_say(why, "no memory");
}

static bool read_file(struct clients *c, const struct tls_text *file, int64_t now_s,
                      char why[TLS_WHY_MAX])
{
    BIO *bio = pem_open(file->data, file->len);
    X509 *x = NULL;
    unsigned n = 0;
    bool ok = true;
    while (ok && bio && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        ok = add(c, x, now_s, why);
        X509_free(x);
        n++;
    }
    BIO_free(bio);
    if (!ok)
        return false;
    if (n == 0)
        return why_as_said(why, "no certificate in PEM is there");
    return pem_at_end() || why_as_said(why, "a certificate behind the first cannot be read");
}

static bool digest(struct clients *c, const struct tls_clients *wanted)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(ctx, &wanted->required, sizeof(wanted->required)) == 1;
    for (unsigned i = 0; ok && i < wanted->n; i++)
        ok = EVP_DigestUpdate(ctx, wanted->files[i].data, wanted->files[i].len) == 1;
    ok = ok && EVP_DigestFinal_ex(ctx, c->id, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool clients_load(struct clients *c, const struct tls_clients *wanted, int64_t now_s, unsigned *bad,
                  char why[TLS_WHY_MAX])
{
    *bad = 0;
    if (wanted->n == 0)
        return true;
    c->required = wanted->required;
    c->store = X509_STORE_new();
    c->names = sk_X509_NAME_new_null();
    if (!c->store || !c->names || !digest(c, wanted))
        return why_say(why, "no memory");
    for (; *bad < wanted->n; ++*bad)
        if (!read_file(c, &wanted->files[*bad], now_s, why))
            return false;
    return true;
}

void clients_unload(struct clients *c)
{
    X509_STORE_free(c->store);
    sk_X509_NAME_pop_free(c->names, X509_NAME_free);
}

/* ------------------------------------------------------------------------------------- checking */

/* One that is longer would be in the way of every request that it goes along with. */
static int on_checked(int ok, X509_STORE_CTX *ctx)
{
    X509 *x = X509_STORE_CTX_get_current_cert(ctx);
    if (!ok || X509_STORE_CTX_get_error_depth(ctx) > 0 || i2d_X509(x, NULL) <= TLS_CLIENT_CERT_MAX)
        return ok;
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* A certificate that was checked when the ticket was made may be over by now. */
static SSL_TICKET_RETURN on_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                   size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    (void)ssl;
    (void)name;
    (void)name_len;
    (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    const X509 *x = SSL_SESSION_get0_peer(session);
    if (x && X509_cmp_current_time(X509_get0_notAfter(x)) <= 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

bool clients_install(const struct clients *c, SSL_CTX *ctx)
{
    if (!c->store)
        return true;
    STACK_OF(X509_NAME) *names = SSL_dup_CA_list(c->names);
    if (!names)
        return false;
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (c->required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       on_checked);
    SSL_CTX_set_max_cert_list(ctx, CHAIN_BYTES_MAX);
    return SSL_CTX_set1_verify_cert_store(ctx, c->store) == 1 &&
           SSL_CTX_set_session_id_context(ctx, c->id, sizeof(c->id)) == 1 &&
           SSL_CTX_set_session_ticket_cb(ctx, NULL, on_opened, NULL) == 1;
}

size_t tls_client_certificate(const struct tls_session *s, uint8_t *out)
{
    const X509 *x = SSL_get0_peer_certificate(s->ssl);
    unsigned char *end = out;
    int len = x ? i2d_X509(x, out ? &end : NULL) : 0;
    return len > 0 ? (size_t)len : 0;
}
