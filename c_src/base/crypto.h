/*
 * Digests, MACs, random bytes and secrets. The only door to libcrypto; nothing here allocates.
 * Knows no STUN.
 */
#ifndef MEERKAT_CRYPTO_H
#define MEERKAT_CRYPTO_H

#include "base.h"

enum { MD5_LEN = 16, SHA1_LEN = 20, SHA256_LEN = 32 };

/* One piece of a message that lies in several places. */
struct crypto_part {
    const void *data;
    size_t len;
};

void crypto_md5(const struct crypto_part *parts, size_t n, uint8_t out[MD5_LEN]);
void crypto_sha256(const struct crypto_part *parts, size_t n, uint8_t out[SHA256_LEN]);

void crypto_hmac_sha1(const void *key, size_t key_len, const struct crypto_part *parts, size_t n,
                      uint8_t out[SHA1_LEN]);
void crypto_hmac_sha256(const void *key, size_t key_len, const struct crypto_part *parts, size_t n,
                        uint8_t out[SHA256_LEN]);

/* Time depends on len alone. */
bool crypto_equal(const void *a, const void *b, size_t len);

/* From the kernel's generator; aborts if it cannot serve, for nothing could be trusted then. */
void crypto_random(void *out, size_t len);

/* Overwrites; the compiler may not leave it out. */
void crypto_zero(void *p, size_t len);

/* Keyed hash for tables that strangers may try to make collide (SipHash-1-3). */
uint64_t crypto_siphash(const uint8_t key[16], const void *data, size_t len);

/* CRC-32 of ISO 3309, as FINGERPRINT wants it; pass 0 first, the last result to go on. */
uint32_t crypto_crc32(uint32_t crc, const void *data, size_t len);
/* CRC-32C (Castagnoli), as the PROXY protocol wants it; likewise. */
uint32_t crypto_crc32c(uint32_t crc, const void *data, size_t len);

#endif
