/*
 * Digests, MACs, random bytes and secrets; see crypto.h. The only file that includes libcrypto.
 *
 * The low-level contexts live on the stack. OpenSSL 3 calls them deprecated in favour of EVP,
 * but EVP fetches and allocates on every use, and a packet may not.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bytes.h"

/* SHA-1 and SHA-256 both work on 64-byte blocks, and so does HMAC over either (RFC 2104). */
enum { HMAC_BLOCK = 64 };

void crypto_md5(const struct crypto_part *parts, size_t n, uint8_t out[MD5_LEN])
{
    MD5_CTX ctx;
    MD5_Init(&ctx);
    for (size_t i = 0; i < n; i++)
        MD5_Update(&ctx, parts[i].data, parts[i].len);
    MD5_Final(out, &ctx);
    crypto_zero(&ctx, sizeof(ctx));
}

void crypto_sha256(const struct crypto_part *parts, size_t n, uint8_t out[SHA256_LEN])
{
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    for (size_t i = 0; i < n; i++)
        SHA256_Update(&ctx, parts[i].data, parts[i].len);
    SHA256_Final(out, &ctx);
    crypto_zero(&ctx, sizeof(ctx));
}

static void xor_block(uint8_t block[HMAC_BLOCK], uint8_t with)
{
    for (size_t i = 0; i < HMAC_BLOCK; i++)
        block[i] ^= with;
}

void crypto_hmac_sha1(const void *key, size_t key_len, const struct crypto_part *parts, size_t n,
                      uint8_t out[SHA1_LEN])
{
    SHA_CTX ctx;
    uint8_t block[HMAC_BLOCK] = {0};
    uint8_t inner[SHA1_LEN];

    if (key_len > HMAC_BLOCK) {
        SHA1_Init(&ctx);
        SHA1_Update(&ctx, key, key_len);
        SHA1_Final(block, &ctx);
    } else if (key_len) {
        memcpy(block, key, key_len);
    }
    xor_block(block, 0x36);
    SHA1_Init(&ctx);
    SHA1_Update(&ctx, block, HMAC_BLOCK);
    for (size_t i = 0; i < n; i++)
        SHA1_Update(&ctx, parts[i].data, parts[i].len);
    SHA1_Final(inner, &ctx);

    xor_block(block, 0x36 ^ 0x5c);
    SHA1_Init(&ctx);
    SHA1_Update(&ctx, block, HMAC_BLOCK);
    SHA1_Update(&ctx, inner, sizeof(inner));
    SHA1_Final(out, &ctx);
    crypto_zero(&ctx, sizeof(ctx));
    crypto_zero(block, sizeof(block));
}

void crypto_hmac_sha256(const void *key, size_t key_len, const struct crypto_part *parts, size_t n,
                        uint8_t out[SHA256_LEN])
{
    SHA256_CTX ctx;
    uint8_t block[HMAC_BLOCK] = {0};
    uint8_t inner[SHA256_LEN];

    if (key_len > HMAC_BLOCK) {
        SHA256_Init(&ctx);
        SHA256_Update(&ctx, key, key_len);
        SHA256_Final(block, &ctx);
    } else if (key_len) {
        memcpy(block, key, key_len);
    }
    xor_block(block, 0x36);
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, block, HMAC_BLOCK);
    for (size_t i = 0; i < n; i++)
        SHA256_Update(&ctx, parts[i].data, parts[i].len);
    SHA256_Final(inner, &ctx);

    xor_block(block, 0x36 ^ 0x5c);
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, block, HMAC_BLOCK);
    SHA256_Update(&ctx, inner, sizeof(inner));
    SHA256_Final(out, &ctx);
    crypto_zero(&ctx, sizeof(ctx));
    crypto_zero(block, sizeof(block));
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        ssize_t got = getrandom(p, len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            perror("getrandom");
            abort();
        }
        p += got;
        len -= (size_t)got;
    }
}

void crypto_zero(void *p, size_t len)
{
    OPENSSL_cleanse(p, len);
}

/* ------------------------------------------------------------------------------- SipHash */

static inline uint64_t rotl(uint64_t x, unsigned b)
{
    return x << b | x >> (64 - b);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t m)
{
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
}

/* SipHash reads little endian; n < 8 for the tail. */
static inline uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static inline uint64_t load64_le(const uint8_t *p)
{
    return __builtin_bswap64(load64(p));
}

uint64_t crypto_siphash(const uint8_t key[16], const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t k0 = load64_le(key);
    uint64_t k1 = load64_le(key + 8);
    uint64_t v[4] = {
        k0 ^ 0x736f6d6570736575u,
        k1 ^ 0x646f72616e646f6du,
        k0 ^ 0x6c7967656e657261u,
        k1 ^ 0x7465646279746573u,
    };
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8)
        sip_word(v, load64_le(p));
    sip_word(v, (uint64_t)(len & 0xff) << 56 | load_le(p, left));
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
