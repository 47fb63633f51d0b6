/*
 * Session tickets (RFC 5077, RFC 8446 4.6.1) sealed with keys of the hour, which HKDF derives from
 * a secret: all servers that have the secret open each other's tickets, and nothing is stored or
 * sent around. Tickets of the hour before are opened and renewed; those of the hour after too, for
 * clocks differ. Older ones cost their client a full handshake, nothing else.
 */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "inside.h"

enum { HOUR_S = 3600, IV_LEN = 16 };

static bool derive(const uint8_t secret[TLS_SECRET_LEN], uint64_t hour, void *out, size_t len)
{
    static const char label[] = "meerkat session tickets";
    char digest[] = "SHA256";
    uint8_t info[sizeof(label) + 8], key[TLS_SECRET_LEN];
    memcpy(info, label, sizeof(label));
    store64(info + sizeof(label), hour);
    memcpy(key, secret, sizeof(key));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, sizeof(key)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info)),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    bool ok = ctx && EVP_KDF_derive(ctx, out, len, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    OPENSSL_cleanse(key, sizeof(key));
    return ok;
}

/* The keys of an hour, derived when it is first asked for; NULL without memory. */
static struct ticket_key *key_of(struct ticket_keys *keys, uint64_t hour)
{
    struct ticket_key *k = &keys->at[hour % ARRAY_SIZE(keys->at)];
    uint8_t all[TICKET_NAME_LEN + TICKET_AES_LEN + TICKET_MAC_LEN];
    if (k->hour == hour)
        return k;
    if (!derive(keys->secret, hour, all, sizeof(all)))
        return NULL;
    memcpy(k->name, all, sizeof(k->name));
    memcpy(k->aes, all + sizeof(k->name), sizeof(k->aes));
    memcpy(k->mac, all + sizeof(k->name) + sizeof(k->aes), sizeof(k->mac));
    k->hour = hour;
    OPENSSL_cleanse(all, sizeof(all));
    return k;
}

static bool start(const struct ticket_key *k, const uint8_t *iv, EVP_CIPHER_CTX *cipher,
                  EVP_MAC_CTX *mac, int seal)
{
    char digest[] = "SHA256";
    uint8_t key[TICKET_MAC_LEN];
    memcpy(key, k->mac, sizeof(key));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key, sizeof(key)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv, seal) == 1 &&
              EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(key, sizeof(key));
    return ok;
}

/* What OpenSSL wants to hear: -1 failed, 0 not ours (a full handshake), 1 done, 2 done and to be
 * renewed. */
static int on_ticket(SSL *ssl, unsigned char name[TICKET_NAME_LEN], unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    const struct tls_session *s = SSL_get_app_data(ssl);
    struct ticket_keys *keys = s->ticket_keys;
    uint64_t hour = s->now_s / HOUR_S;
    if (seal) {
        const struct ticket_key *k = key_of(keys, hour);
        if (!k || RAND_bytes(iv, IV_LEN) != 1 || !start(k, iv, cipher, mac, 1))
            return -1;
        memcpy(name, k->name, TICKET_NAME_LEN);
        return 1;
    }
    for (int off = -1; off <= 1; off++) {
        const struct ticket_key *k = key_of(keys, hour + (uint64_t)off);
        if (k && CRYPTO_memcmp(k->name, name, TICKET_NAME_LEN) == 0)
            return !start(k, iv, cipher, mac, 0) ? -1 : off == -1 ? 2 : 1;
    }
    return 0;
}

void ticket_install(SSL_CTX *ctx)
{
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    SSL_CTX_set_timeout(ctx, 2 * HOUR_S);
}
