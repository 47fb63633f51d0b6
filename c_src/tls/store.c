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
    struct share shares[]; /* of each thread */
};

/* ---------------------------------------------------------------------------------- saying why */

static bool wrong(char why[TLS_WHY_MAX], const char *text)
{
    snprintf(why, TLS_WHY_MAX, "%s", text);
    return false;
}

/* With what OpenSSL says. */
static bool wrong_as_said(char why[TLS_WHY_MAX], const char *text)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    snprintf(why, TLS_WHY_MAX, "%s (%s)", text, reason ? reason : "no reason given");
    ERR_clear_error();
    return false;
}

static void subject(const X509 *x, char *out, size_t cap)
{
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, (int)cap) < 0)
        X509_NAME_oneline(X509_get_subject_name(x), out, (int)cap);
}

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

static BIO *text_of(const void *data, size_t len)
{
    return BIO_new_mem_buf(data, (int)MIN(len, (size_t)INT32_MAX));
}

static bool read_key(struct cert *c, const struct tls_pair *pair, char why[TLS_WHY_MAX])
{
    bool asked = false;
    BIO *bio = text_of(pair->key, pair->key_len);
    c->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked) : NULL;
    BIO_free(bio);
    if (c->key)
        return true;
    return asked ? wrong(why, "the key is encrypted: it must be stored without a passphrase")
                 : wrong_as_said(why, "no private key in PEM is there");
}

static bool read_chain(struct cert *c, const struct tls_pair *pair, char why[TLS_WHY_MAX])
{
    BIO *bio = text_of(pair->chain, pair->chain_len);
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    c->leaf = x;
    c->issuers = sk_X509_new_null();
    if (!x || !c->issuers) {
        BIO_free(bio);
        return wrong_as_said(why, "no certificate in PEM is there");
    }
    while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL && sk_X509_push(c->issuers, x))
        ;
    BIO_free(bio);
    /* The end of a PEM file is told as an error like any other. */
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (!at_end)
        return wrong_as_said(why, "a certificate behind the first cannot be read");
    ERR_clear_error();
    return true;
}

/* ------------------------------------------------------------------------------------ checking */

static int64_t seconds(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static bool in_time(const X509 *x, int64_t now_s, char why[TLS_WHY_MAX])
{
    int64_t from = seconds(X509_get0_notBefore(x)), until = seconds(X509_get0_notAfter(x));
    if (now_s == TLS_ANY_TIME || (now_s >= from && now_s < until))
        return true;
    char name[96], date[32];
    time_t at = now_s < from ? from : until;
    struct tm tm;
    subject(x, name, sizeof(name));
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
    snprintf(why, TLS_WHY_MAX, "the certificate of %s %s %s", name,
             now_s < from ? "is not valid before" : "expired on", date);
    return false;
}

/* Each has issued the one before it, as clients expect it; none is over. */
static bool check_chain(const struct cert *c, int64_t now_s, char why[TLS_WHY_MAX])
{
    X509 *last = c->leaf;
    if (!in_time(last, now_s, why))
        return false;
    if (sk_X509_num(c->issuers) > CHAIN_MAX)
        return wrong(why, "more than 9 certificates in one file: it must have one chain");
    for (int i = 0; i < sk_X509_num(c->issuers); i++) {
        X509 *issuer = sk_X509_value(c->issuers, i);
        if (X509_check_issued(issuer, last) != X509_V_OK) {
            char name[96];
            subject(last, name, sizeof(name));
            snprintf(why, TLS_WHY_MAX,
                     "certificate %d of the file did not issue the one before it (%s): the file "
                     "must have the server's certificate first, then its issuer, and so on",
                     i + 2, name);
            return false;
        }
        if (!in_time(issuer, now_s, why))
            return false;
        last = issuer;
    }
    return true;
}

static int64_t first_end(const struct cert *c)
{
    int64_t end = seconds(X509_get0_notAfter(c->leaf));
    for (int i = 0; i < sk_X509_num(c->issuers); i++)
        end = MIN(end, seconds(X509_get0_notAfter(sk_X509_value(c->issuers, i))));
    return end;
}

static bool read_pair(struct cert *c, const struct tls_pair *pair, int64_t now_s,
                      char why[TLS_WHY_MAX])
{
    if (!read_chain(c, pair, why) || !read_key(c, pair, why) || !check_chain(c, now_s, why))
        return false;
    if (X509_check_private_key(c->leaf, c->key) != 1) {
        ERR_clear_error();
        return wrong(why, "the key is not that of the certificate");
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

/* The certificate itself, and of each other kind of key the first that stands with it. */
static SSL_CTX *make_context(const struct tls_store *s, enum tls_kind kind_of, unsigned which,
                             char why[TLS_WHY_MAX])
{
    SSL_CTX *ctx = session_context(kind_of);
    uint64_t kinds = 0;
    for (unsigned i = 0; ctx && i <= s->n; i++) {
        const struct cert *c = &s->certs[i == 0 ? which : i - 1];
        uint64_t kind = 1ull << (EVP_PKEY_get_base_id(c->key) % 64);
        if (kinds & kind || (i > 0 && !stand_together(&s->certs[which], c)))
            continue;
        kinds |= kind;
        if (SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key, c->issuers, 1) != 1) {
            wrong_as_said(why, "the certificate cannot be used");
            SSL_CTX_free(ctx);
            return NULL;
        }
    }
    if (!ctx)
        wrong_as_said(why, "no TLS context can be made");
    return ctx;
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

static bool fill(struct tls_store *s, const struct tls_pair *pairs, int64_t now_s, unsigned *bad,
                 char why[TLS_WHY_MAX])
{
    s->not_after = INT64_MAX;
    for (*bad = 0; *bad < s->n; ++*bad) {
        if (!read_pair(&s->certs[*bad], &pairs[*bad], now_s, why))
            return false;
        s->not_after = MIN(s->not_after, first_end(&s->certs[*bad]));
    }
    for (unsigned t = 0; t < s->threads; t++)
        for (enum tls_kind k = 0; k < TLS_KINDS; k++)
            if (!fill_contexts(s, s->shares[t].contexts[k], k, bad, why))
                return false;
    return true;
}

struct tls_store *tls_store_load(const struct tls_pair *pairs, unsigned n,
                                 const uint8_t secret[TLS_SECRET_LEN], unsigned threads,
                                 int64_t now_s, unsigned *bad, char why[TLS_WHY_MAX])
{
    struct tls_store *s = calloc(1, sizeof(*s) + threads * sizeof(s->shares[0]));
    *bad = 0;
    why[0] = '\0';
    if (!s || n == 0 || n > TLS_PAIRS_MAX) {
        free(s);
        wrong(why, s ? "from 1 to 16 certificates are possible" : "no memory");
        return NULL;
    }
    s->n = n;
    s->threads = threads;
    atomic_init(&s->holders, 1);
    for (unsigned t = 0; t < threads; t++)
        memcpy(s->shares[t].keys.secret, secret, TLS_SECRET_LEN);
    ERR_clear_error();
    if (!fill(s, pairs, now_s, bad, why)) {
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
