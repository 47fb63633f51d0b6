#include "certs.h"

#include <stdlib.h>
#include <string.h>

enum { DAY_S = 86400 };

void cert_text(BIO *bio, char *out, size_t cap)
{
    int n = BIO_read(bio, out, (int)cap - 1);
    BIO_free(bio);
    out[MAX(n, 0)] = '\0';
}

static EVP_PKEY *new_key(const char *kind)
{
    if (strcmp(kind, "EC") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)(strcmp(kind, "WEAK") == 0 ? 1024 : 2048));
}

static void add_names(X509 *cert, const char *names)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
}

struct cert_made *cert_make(const char *kind, const char *subject, const char *names,
                            const struct cert_made *issuer, int from, int until)
{
    struct cert_made *m = calloc(1, sizeof(*m));
    m->key = new_key(kind);
    m->cert = X509_new();
    X509_set_version(m->cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(m->cert), rand());
    X509_gmtime_adj(X509_getm_notBefore(m->cert), (long)from * DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(m->cert), (long)until * DAY_S);
    X509_set_pubkey(m->cert, m->key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(m->cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)subject, -1, -1, 0);
    X509_set_issuer_name(m->cert, X509_get_subject_name(issuer ? issuer->cert : m->cert));
    if (names)
        add_names(m->cert, names);
    X509_sign(m->cert, issuer ? issuer->key : m->key, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, m->cert);
    cert_text(bio, m->cert_pem, sizeof(m->cert_pem));
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, m->key, NULL, NULL, 0, NULL, NULL);
    cert_text(bio, m->key_pem, sizeof(m->key_pem));
    return m;
}

void cert_unmake(struct cert_made *m)
{
    EVP_PKEY_free(m->key);
    X509_free(m->cert);
    free(m);
}

struct tls_pair cert_pair(const char *chain, const char *key)
{
    return (struct tls_pair){chain, strlen(chain), key, strlen(key)};
}
