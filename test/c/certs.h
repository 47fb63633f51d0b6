/*
 * Certificates for tests, made on the spot: any subject, names, issuer and time.
 */
#ifndef MEERKAT_TEST_CERTS_H
#define MEERKAT_TEST_CERTS_H

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tls.h"

struct cert_made {
    EVP_PKEY *key;
    X509 *cert;
    char key_pem[4096], cert_pem[8192];
};

/* kind: "EC", "RSA" or "WEAK" (RSA of 1,024 bits); names as OpenSSL writes them, or NULL; issuer
 * NULL: itself. From so many days from now until so many. */
struct cert_made *cert_make(const char *kind, const char *subject, const char *names,
                            const struct cert_made *issuer, int from, int until);
void cert_unmake(struct cert_made *m);

struct tls_pair cert_pair(const char *chain, const char *key);

/* All that was written to bio, which is freed, as a text. */
void cert_text(BIO *bio, char *out, size_t cap);

#endif
