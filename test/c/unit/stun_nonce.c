/*
 * Nonces: good for their client and their lifetime, and nothing else (X30 to X32).
 */
#include "stun_kit.h"

static uint8_t secret[STUN_NONCE_KEY_LEN], foreign[STUN_NONCE_KEY_LEN];
static struct addr client;
static const uint32_t both = STUN_FEATURE_PASSWORD_ALGORITHMS | STUN_FEATURE_USERNAME_ANONYMITY;
static char nonce[STUN_NONCE_LEN];
static const uint8_t *n = (const uint8_t *)nonce;

static void prepare(void)
{
    memset(secret, 1, sizeof(secret));
    memset(foreign, 2, sizeof(foreign));
    client = addr_from_v4(v4, 40000);
}

static void cookies(void)
{
    test_begin("the nonce cookie and feature bits (RFC 8489 9.2, erratum 6290)");
    stun_nonce_make(nonce, secret, 1000, STUN_FEATURE_USERNAME_ANONYMITY, &client);
    CHECK_MEM(nonce, "obMatJos2AAAC", 13);
    stun_nonce_make(nonce, secret, 1000, 0, &client);
    CHECK_MEM(nonce, "obMatJos2AAAA", 13);
    stun_nonce_make(nonce, secret, 1000, both, &client);
    CHECK_MEM(nonce, "obMatJos2AAAD", 13);
    for (size_t i = 0; i < STUN_NONCE_LEN; i++)
        CHECK(nonce[i] > ' ' && nonce[i] < 127 && nonce[i] != '"');
}

static void lifetimes(void)
{
    test_begin("X30 a nonce is good for its lifetime");
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &client));
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1600, 600, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1601, 600, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, UINT32_MAX, 600, both, &client));
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 0, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1001, 0, both, &client));
    test_begin("X30 nor is one from the future");
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 999, 600, both, &client));
    test_begin("X30 seconds of every size");
    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t then = 1u << bit;
        stun_nonce_make(nonce, secret, then, both, &client);
        CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, then + 5, 5, both, &client));
        CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, then + 6, 5, both, &client));
    }
    stun_nonce_make(nonce, secret, 1000, both, &client);
}

static void forgeries(void)
{
    test_begin("X31 a foreign key, other features");
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, foreign, 1000, 600, both, &client));
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, 0, &client));
    test_begin("X31 any flipped bit");
    for (size_t bit = 0; bit < 8 * STUN_NONCE_LEN; bit++) {
        uint8_t *copy = test_exact(nonce, STUN_NONCE_LEN);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!stun_nonce_check(copy, STUN_NONCE_LEN, secret, 1000, 600, both, &client));
        free(copy);
    }
    test_begin("X31 other lengths, empty, 764 bytes, not text");
    for (size_t len = 0; len < 764; len += len < 50 ? 1 : 50) {
        uint8_t *copy = calloc(1, len + 1);
        if (!copy)
            abort();
        memcpy(copy, nonce, MIN(len, (size_t)STUN_NONCE_LEN));
        CHECK_EQ(stun_nonce_check(copy, len, secret, 1000, 600, both, &client),
                 len == STUN_NONCE_LEN);
        memset(copy, 0xff, len);
        CHECK(!stun_nonce_check(copy, len, secret, 1000, UINT32_MAX, both, &client));
        memset(copy, 0, len);
        CHECK(!stun_nonce_check(copy, len, secret, 1000, UINT32_MAX, both, &client));
        free(copy);
    }
}

static void other_clients(void)
{
    struct addr other;
    test_begin("X32 another client's port or address");
    other = client;
    other.port++;
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
    other = client;
    other.ip[15] ^= 1;
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
    other = addr_from_v6(v6, 40000);
    CHECK(!stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
    stun_nonce_make(nonce, secret, 1000, both, &other);
    CHECK(stun_nonce_check(n, STUN_NONCE_LEN, secret, 1000, 600, both, &other));
}

int main(void)
{
    prepare();
    cookies();
    lifetimes();
    forgeries();
    other_clients();
    return test_end("stun_nonce");
}
