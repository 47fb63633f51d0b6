/*
 * Digests and MACs against published vectors, at the lengths where their blocks end, and whole
 * against in parts.
 */
#include "crypto.h"

#include "test.h"

enum { DIGEST_MAX = 32 };

static void check_hex(const uint8_t *got, const char *want)
{
    uint8_t bytes[DIGEST_MAX];
    size_t len = test_hex(want, bytes, sizeof(bytes));
    CHECK_MEM(got, bytes, len);
}

static void digests(void)
{
    static const struct {
        const char *text, *md5, *sha256;
    } rows[] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a",
         "f371bc4a311f2b009eef952dd83ca80e2b60026c8e935592d0f9c308453c813e"},
    };
    uint8_t out[DIGEST_MAX];
    test_begin("MD5 (RFC 1321 A.5) and SHA-256 (FIPS 180)");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct crypto_part whole = {rows[i].text, strlen(rows[i].text)};
        crypto_md5(&whole, 1, out);
        check_hex(out, rows[i].md5);
        crypto_sha256(&whole, 1, out);
        check_hex(out, rows[i].sha256);
    }
    crypto_md5(NULL, 0, out);
    check_hex(out, rows[0].md5);
}

static void hmacs(void)
{
    uint8_t ones[131], text[50], out[DIGEST_MAX];
    struct crypto_part hi = {"Hi There", 8};
    struct crypto_part jefe = {"what do ya want for nothing?", 28};
    struct crypto_part dd = {text, sizeof(text)};
    struct crypto_part larger = {"Test Using Larger Than Block-Size Key - Hash Key First", 54};

    test_begin("HMAC-SHA1 (RFC 2202)");
    memset(ones, 0x0b, 20);
    crypto_hmac_sha1(ones, 20, &hi, 1, out);
    check_hex(out, "b617318655057264e28bc0b6fb378c8ef146be00");
    crypto_hmac_sha1("Jefe", 4, &jefe, 1, out);
    check_hex(out, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    memset(ones, 0xaa, sizeof(ones));
    memset(text, 0xdd, sizeof(text));
    crypto_hmac_sha1(ones, 20, &dd, 1, out);
    check_hex(out, "125d7342b9ac11cd91a39af48aa17b4f63f175d3");
    crypto_hmac_sha1(ones, 80, &larger, 1, out);
    check_hex(out, "aa4ae5e15272d00e95705637ce8a3b55ed402112");

    test_begin("HMAC-SHA256 (RFC 4231)");
    memset(ones, 0x0b, 20);
    crypto_hmac_sha256(ones, 20, &hi, 1, out);
    check_hex(out, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    crypto_hmac_sha256("Jefe", 4, &jefe, 1, out);
    check_hex(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(ones, 0xaa, sizeof(ones));
    crypto_hmac_sha256(ones, 20, &dd, 1, out);
    check_hex(out, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    crypto_hmac_sha256(ones, 131, &larger, 1, out);
    check_hex(out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");

    test_begin("a key of a whole block is used as it is, a longer one by its digest");
    uint8_t key[65] = {0}, with_zero[DIGEST_MAX];
    memset(key, 'k', 63);
    crypto_hmac_sha1(key, 63, &hi, 1, out);
    crypto_hmac_sha1(key, 64, &hi, 1, with_zero);
    CHECK_MEM(out, with_zero, SHA1_LEN);
    crypto_hmac_sha1(key, 65, &hi, 1, with_zero);
    CHECK(memcmp(out, with_zero, SHA1_LEN) != 0);
    test_begin("an empty key");
    crypto_hmac_sha256(NULL, 0, NULL, 0, out);
    check_hex(out, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void parts(void)
{
    uint8_t data[200], whole[DIGEST_MAX], split[DIGEST_MAX];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    struct crypto_part one = {data, sizeof(data)};
    test_begin("in parts as in one");
    for (size_t cut = 0; cut <= sizeof(data); cut += 5) {
        struct crypto_part three[] = {{data, cut}, {NULL, 0}, {data + cut, sizeof(data) - cut}};
        crypto_md5(&one, 1, whole);
        crypto_md5(three, 3, split);
        CHECK_MEM(split, whole, MD5_LEN);
        crypto_sha256(&one, 1, whole);
        crypto_sha256(three, 3, split);
        CHECK_MEM(split, whole, SHA256_LEN);
        crypto_hmac_sha1("key", 3, &one, 1, whole);
        crypto_hmac_sha1("key", 3, three, 3, split);
        CHECK_MEM(split, whole, SHA1_LEN);
        crypto_hmac_sha256("key", 3, &one, 1, whole);
        crypto_hmac_sha256("key", 3, three, 3, split);
        CHECK_MEM(split, whole, SHA256_LEN);
    }
}

/* As the standard writes it, a bit at a time. */
static uint32_t crc_slow(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    }
    return ~crc;
}

static void crc(void)
{
    test_begin("CRC-32 check value");
    CHECK_EQ(crypto_crc32(0, "123456789", 9), 0xcbf43926);
    CHECK_EQ(crypto_crc32(0, NULL, 0), 0);
    test_begin("CRC-32 against the bitwise form, every length, alignment and cut");
    uint8_t data[96];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (size_t from = 0; from < 8; from++)
        for (size_t len = 0; from + len <= sizeof(data); len++) {
            uint32_t want = crc_slow(data + from, len);
            CHECK_EQ(crypto_crc32(0, data + from, len), want);
            uint32_t half = crypto_crc32(0, data + from, len / 3);
            CHECK_EQ(crypto_crc32(half, data + from + len / 3, len - len / 3), want);
        }
}

static void siphash(void)
{
    uint8_t key[16], data[15];
    for (size_t i = 0; i < 16; i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < 15; i++)
        data[i] = (uint8_t)i;
    test_begin("SipHash-1-3 of 00.. under 00..0f");
    CHECK(crypto_siphash(key, data, 0) == 0xabac0158050fc4dc);
    CHECK(crypto_siphash(key, data, 15) == 0xd320d86d2a519956);
    test_begin("SipHash depends on every byte, the length and the key");
    uint64_t base = crypto_siphash(key, data, 15);
    for (size_t i = 0; i < 15; i++) {
        data[i] ^= 1;
        CHECK(crypto_siphash(key, data, 15) != base);
        data[i] ^= 1;
        CHECK(crypto_siphash(key, data, i) != base);
    }
    for (size_t i = 0; i < 16; i++) {
        key[i] ^= 0x80;
        CHECK(crypto_siphash(key, data, 15) != base);
        key[i] ^= 0x80;
    }
    test_begin("SipHash reads no byte too many");
    for (size_t len = 0; len <= 15; len++) {
        uint8_t *copy = test_exact(data, len);
        CHECK(crypto_siphash(key, copy, len) == crypto_siphash(key, data, len));
        free(copy);
    }
}

static void secrets(void)
{
    uint8_t a[32], b[32];
    test_begin("comparison");
    memset(a, 5, sizeof(a));
    memset(b, 5, sizeof(b));
    CHECK(crypto_equal(a, b, sizeof(a)));
    CHECK(crypto_equal(a, b, 0));
    for (size_t i = 0; i < sizeof(a); i++) {
        b[i] ^= 0x10;
        CHECK(!crypto_equal(a, b, sizeof(a)));
        b[i] ^= 0x10;
    }
    test_begin("random bytes fill what they should and differ");
    static uint8_t big[5000], other[5000];
    crypto_random(big, sizeof(big));
    crypto_random(other, sizeof(other));
    CHECK(memcmp(big, other, sizeof(big)) != 0);
    unsigned seen[256] = {0}, kinds = 0;
    for (size_t i = 0; i < sizeof(big); i++)
        kinds += seen[big[i]]++ == 0;
    CHECK_EQ(kinds, 256); /* a missing value has probability 256 * (255/256)^5000 of about 10^-6 */
    memset(a, 0, sizeof(a));
    crypto_random(a, 0);
    CHECK_EQ(a[0], 0);
    test_begin("wiping");
    crypto_zero(big, sizeof(big));
    static const uint8_t zero[5000];
    CHECK_MEM(big, zero, sizeof(big));
}

int main(void)
{
    digests();
    hmacs();
    parts();
    crc();
    siphash();
    secrets();
    return test_end("crypto");
}
