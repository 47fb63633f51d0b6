/*
 * Certificates: read from PEM, checked, and put into contexts, one for each of them and each
 * thread. What is wrong is said so that whoever wrote the files knows what to do.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "inside.h"

enum { CHAIN_MAX = 8 }; /* certificates behind the first */

struct cert {
    X509 *leaf;
    STACK_OF(X509) * issuers; /* in the order in which they are sent */
    EVP_PKEY *key;
};

/* What one thread has. */
struct share {
    struct ticket_keys keys;
    SSL_CTX *contexts[TLS_KINDS][TLS_PAIRS_MAX]; /* of each certificate */
};

struct tls_store {
    _Atomic unsigned holders;
    unsigned n, threads;
    int64_t not_after;
    struct cert certs[TLS_PAIRS_MAX];
    struct clients clients;
    struct share shares[]; /* of each thread */
};

/* ------------------------------------------------------------------------------------- reading */

/* Nobody is there to type a passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *asked)
{
    (void)buf;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static bool read_key(struct cert *c, const struct tls_pair *pair, char why[TLS_WHY_MAX])
{
    bool asked = false;
    BIO *bio = pem_open(pair->key, pair->key_len);
    c->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked) : NULL;
    BIO_free(bio);
    if (c->key)
        return true;
    return asked ? why_say(why, "the key is encrypted: it must be stored without a passphrase")
                 : why_as_said(why, "no private key in PEM is there");
}

static bool read_chain(struct cert *c, const struct tls_pair *pair, char why[TLS_WHY_MAX])
{
    BIO *bio = pem_open(pair->chain, pair->chain_len);
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    c->leaf = x;
    c->issuers = sk_X509_new_null();
    if (!x || !c->issuers) {
        BIO_free(bio);
        return why_as_said(why, "no certificate in PEM is there");
    }
    while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL && sk_X509_push(c->issuers, x))
        ;
    BIO_free(bio);
    return pem_at_end() || why_as_said(why, "a certificate behind the first cannot be read");
}

/* ------------------------------------------------------------------------------------ checking */

/* Each has issued the one before it, as clients expect it; none is over. */
static bool check_chain(const struct cert *c, int64_t now_s, char why[TLS_WHY_MAX])
{
    X509 *last = c->leaf;
    if (!cert_in_time(last, now_s, why))
        return false;
    if (sk_X509_num(c->issuers) > CHAIN_MAX)
        return why_say(why, "more than 9 certificates in one file: it must have one chain");
    for (int i = 0; i < sk_X509_num(c->issuers); i++) {
        X509 *issuer = sk_X509_value(c->issuers, i);
        if (X509_check_issued(issuer, last) != X509_V_OK) {
            char name[96];
            cert_subject(last, name, sizeof(name));
            snprintf(why, TLS_WHY_MAX,
                     "certificate %d of the file did not issue the one before it (%s): the file "
                     "must have the server's certificate first, then its issuer, and so on",
                     i + 2, name);
            return false;
        }
        if (!cert_in_time(issuer, now_s, why))
            return false;
        last = issuer;
    }
    return true;
}

static int64_t first_end(const struct cert *c)
{
    int64_t end = cert_seconds(X509_get0_notAfter(c->leaf));
    for (int i = 0; i < sk_X509_num(c->issuers); i++)
        end = MIN(end, cert_seconds(X509_get0_notAfter(sk_X509_value(c->issuers, i))));
    return end;
}

static bool read_pair(struct cert *c, const struct tls_pair *pair, int64_t now_s,
                      char why[TLS_WHY_MAX])
{
    if (!read_chain(c, pair, why) || !read_key(c, pair, why) || !check_chain(c, now_s, why))
        return false;
    if (X509_check_private_key(c->leaf, c->key) != 1) {
        ERR_clear_error();
        return why_say(why, "the key is not that of the certificate");
    }
    return true;
}

/* -------------------------------------------------------------------------------- which to show */

/* The first DNS name of a certificate; false without. */
static bool first_name(X509 *x, char *out, size_t cap)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; !found && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        const ASN1_STRING *text = name->d.dNSName;
        found = (size_t)ASN1_STRING_length(text) < cap;
        if (found)
            snprintf(out, cap, "%.*s", ASN1_STRING_length(text),
                     (const char *)ASN1_STRING_get0_data(text));
    }
    GENERAL_NAMES_free(names);
    return found;
}

static bool is_for(X509 *x, const char *name)
{
    return X509_check_host(x, name, 0, 0, NULL) == 1;
}

/* Do two certificates stand for the same server, so that the client may choose the kind of key? */
static bool stand_together(const struct cert *a, const struct cert *b)
{
    char name[256];
    if (!first_name(a->leaf, name, sizeof(name)))
        return X509_NAME_cmp(X509_get_subject_name(a->leaf), X509_get_subject_name(b->leaf)) == 0;
    if (name[0] == '*')
        name[0] = 'x'; /* any name it stands for */
    return is_for(b->leaf, name);
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

/* The certificate itself, and of each other kind of key the first that stands with it. */
static SSL_CTX *make_context(const struct tls_store *s, enum tls_kind kind_of, unsigned which,
                             char why[TLS_WHY_MAX])
{
    SSL_CTX *ctx = context_make(kind_of);
    uint64_t kinds = 0;
    for (unsigned i = 0; ctx && i <= s->n; i++) {
        const struct cert *c = &s->certs[i == 0 ? which : i - 1];
        uint64_t kind = 1ull << (EVP_PKEY_get_base_id(c->key) % 64);
        if (kinds & kind || (i > 0 && !stand_together(&s->certs[which], c)))
            continue;
        kinds |= kind;
        if (SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key, c->issuers, 1) != 1) {
            why_as_said(why, "the certificate cannot be used");
            SSL_CTX_free(ctx);
            return NULL;
        }
    }
    if (ctx && clients_install(&s->clients, ctx)) {
        SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
        return ctx;
    }
    why_as_said(why, "no TLS context can be made");
    SSL_CTX_free(ctx);
    return NULL;
}

SSL_CTX *store_context(struct tls_store *s, unsigned thread, enum tls_kind kind, const char *name)
{
    SSL_CTX *const *contexts = s->shares[thread].contexts[kind];
    for (unsigned i = 0; name && i < s->n; i++)
        if (is_for(s->certs[i].leaf, name))
            return contexts[i];
    return contexts[0];
}

struct ticket_keys *store_ticket_keys(struct tls_store *s, unsigned thread)
{
    return &s->shares[thread].keys;
}

/* ---------------------------------------------------------------------------------- the store */

static void destroy(struct tls_store *s)
{
    for (unsigned t = 0; t < s->threads; t++) {
        for (unsigned i = 0; i < TLS_KINDS * s->n; i++)
            SSL_CTX_free(s->shares[t].contexts[i / s->n][i % s->n]);
        OPENSSL_cleanse(&s->shares[t].keys, sizeof(s->shares[t].keys));
    }
    for (unsigned i = 0; i < s->n; i++) {
        X509_free(s->certs[i].leaf);
        sk_X509_pop_free(s->certs[i].issuers, X509_free);
        EVP_PKEY_free(s->certs[i].key);
    }
    clients_unload(&s->clients);
    free(s);
}

/* Of one thread, for each certificate. */
static bool fill_contexts(struct tls_store *s, SSL_CTX *contexts[TLS_PAIRS_MAX], enum tls_kind kind,
                          unsigned *bad, char why[TLS_WHY_MAX])
{
    for (*bad = 0; *bad < s->n; ++*bad)
        if (!(contexts[*bad] = make_context(s, kind, *bad, why)))
            return false;
    return true;
}

/* Files of clients count on behind the pairs. */
static bool fill_clients(struct tls_store *s, const struct tls_wanted *w, unsigned *bad,
                         char why[TLS_WHY_MAX])
{
    bool ok = !w->clients || clients_load(&s->clients, w->clients, w->now_s, bad, why);
    *bad += ok ? 0 : s->n;
    return ok;
}

static bool fill(struct tls_store *s, const struct tls_wanted *w, unsigned *bad,
                 char why[TLS_WHY_MAX])
{
    s->not_after = INT64_MAX;
    for (*bad = 0; *bad < s->n; ++*bad) {
        if (!read_pair(&s->certs[*bad], &w->pairs[*bad], w->now_s, why))
            return false;
        s->not_after = MIN(s->not_after, first_end(&s->certs[*bad]));
    }
    if (!fill_clients(s, w, bad, why))
        return false;
    for (unsigned t = 0; t < s->threads; t++)
        for (enum tls_kind k = 0; k < TLS_KINDS; k++)
            if (!fill_contexts(s, s->shares[t].contexts[k], k, bad, why))
                return false;
    return true;
}

struct tls_store *tls_store_load(const struct tls_wanted *w, unsigned *bad, char why[TLS_WHY_MAX])
{
    struct tls_store *s = calloc(1, sizeof(*s) + w->threads * sizeof(s->shares[0]));
    *bad = 0;
    why[0] = '\0';
    if (!s || w->n == 0 || w->n > TLS_PAIRS_MAX) {
        free(s);
        why_say(why, s ? "from 1 to 16 certificates are possible" : "no memory");
        return NULL;
    }
    s->n = w->n;
    s->threads = w->threads;
    atomic_init(&s->holders, 1);
    for (unsigned t = 0; t < w->threads; t++)
        memcpy(s->shares[t].keys.secret, w->secret, TLS_SECRET_LEN);
    ERR_clear_error();
    if (!fill(s, w, bad, why)) {
        destroy(s);
        return NULL;
    }
    return s;
}

struct tls_store *tls_store_hold(struct tls_store *s)
{
    atomic_fetch_add(&s->holders, 1);
    return s;
}

void tls_store_release(struct tls_store *s)
{
    if (s && atomic_fetch_sub(&s->holders, 1) == 1)
        destroy(s);
}

bool tls_store_has(const struct tls_store *s, const char *name)
{
    for (unsigned i = 0; i < s->n; i++)
        if (is_for(s->certs[i].leaf, name))
            return true;
    return false;
}

int64_t tls_store_not_after(const struct tls_store *s)
{
    return s->not_after;
}
