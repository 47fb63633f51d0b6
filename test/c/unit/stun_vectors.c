/*
 * The codec against the messages that RFC 5769 and RFC 8489 publish: read, tormented, built again.
 */
#include "stun_kit.h"

/* Run by make from c_src. */
#define VECTORS "../test/data/stun_vectors.txt"

#define LONG_USER "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9"
#define REALM     "example.org"
#define PASSWORD  "TheMatrIX"

static uint8_t vector[1024];
static size_t vector_len;

static bool load_vector(const char *name)
{
    static char line[4096];
    size_t name_len = strlen(name);
    FILE *f = fopen(VECTORS, "r");
    vector_len = 0;
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, name_len) == 0 && line[name_len] == ' ')
            vector_len = test_hex(line + name_len + 1, vector, sizeof(vector));
    if (f)
        fclose(f);
    return CHECK(vector_len > 0);
}

/* Every prefix is refused; every flipped bit is seen, by the parser or by the signature. But for
 * those of FINGERPRINT's type: they leave a message without one, and an attribute that does not
 * count. */
static void torment_vector(bool sha256, const void *k, size_t k_len)
{
    struct stun_view v;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    bool had_fingerprint = v.has_fingerprint;
    for (size_t len = 0; len < vector_len; len++)
        CHECK(verdict_of(vector, len) != STUN_OK);
    for (size_t bit = 0; bit < 8 * vector_len; bit++) {
        uint8_t *copy = test_exact(vector, vector_len);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (stun_parse(&v, copy, vector_len) == STUN_OK) {
            bool type_of_fingerprint = had_fingerprint && bit / 8 / 2 == (vector_len - 8) / 2;
            CHECK_EQ(signed_by(&v, sha256, k, k_len), type_of_fingerprint);
            CHECK_EQ(v.has_fingerprint, false);
        }
        free(copy);
    }
}

static void short_term_vectors(void)
{
    static const char password[] = "VOkJxbRl1RmTxUk/WvJxBt";
    static const uint8_t rfc_v6[16] = {0x20, 0x01, 0x0d, 0xb8, 0x12, 0x34, 0x56, 0x78,
                                       0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};
    struct stun_view v;
    const uint8_t *value;
    size_t len;
    struct addr a, want;

    test_begin("RFC 5769 2.1");
    if (!load_vector("rfc5769-2.1"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(v.cls, STUN_REQUEST);
    CHECK_EQ(v.method, STUN_BINDING);
    CHECK(v.has_fingerprint);
    CHECK_EQ(v.unknown_count, 0);
    CHECK_EQ(count_attrs(&v), 6);
    CHECK_EQ(stun_get_bytes(&v, A_software, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "STUN test client", 16);
    CHECK_EQ(stun_get_bytes(&v, A_username, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "evtj:h6vY", 9);
    CHECK_EQ(get_uint(&v, A_priority), 0x6e0001ff);
    CHECK_EQ(get_uint(&v, A_ice_controlled), 0x932ff9b151263b36);
    CHECK(signed_by(&v, false, password, strlen(password)));
    CHECK(!signed_by(&v, false, password, strlen(password) - 1));
    torment_vector(false, password, strlen(password));

    test_begin("RFC 5769 2.2");
    if (!load_vector("rfc5769-2.2"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(v.cls, STUN_SUCCESS);
    CHECK_EQ(stun_get_addr(&v, A_xor_mapped_address, &a), STUN_OK);
    want = addr_from_v4(v4, 32853);
    CHECK(addr_equal(&a, &want));
    CHECK(v.has_fingerprint && signed_by(&v, false, password, strlen(password)));
    torment_vector(false, password, strlen(password));

    test_begin("RFC 5769 2.3");
    if (!load_vector("rfc5769-2.3"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(stun_get_addr(&v, A_xor_mapped_address, &a), STUN_OK);
    want = addr_from_v6(rfc_v6, 32853);
    CHECK(addr_equal(&a, &want));
    CHECK(v.has_fingerprint && signed_by(&v, false, password, strlen(password)));
    torment_vector(false, password, strlen(password));
}

static void long_term_vectors(void)
{
    uint8_t md5[STUN_KEY_MD5_LEN], sha256[STUN_KEY_SHA256_LEN], hash[32], want[32];
    struct stun_view v;
    const uint8_t *value;
    size_t len;

    test_begin("keys and user hash of RFC 5769 2.4 and RFC 8489 B.1");
    stun_key_md5(LONG_USER, 18, REALM, 11, PASSWORD, 9, md5);
    test_hex("e8ca7ad59d5eb0518e312911d2dab2a9", want, 16);
    CHECK_MEM(md5, want, 16);
    stun_key_sha256(LONG_USER, 18, REALM, 11, PASSWORD, 9, sha256);
    test_hex("dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1", want, 32);
    CHECK_MEM(sha256, want, 32);
    stun_userhash(LONG_USER, 18, REALM, 11, hash);

    test_begin("RFC 5769 2.4");
    if (!load_vector("rfc5769-2.4"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK(!v.has_fingerprint);
    CHECK_EQ(stun_get_bytes(&v, A_username, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, LONG_USER, 18);
    CHECK_EQ(stun_get_bytes(&v, A_nonce, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "f//499k954d6OL34oL9FSTvy64sA", 28);
    CHECK_EQ(stun_get_bytes(&v, A_realm, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, REALM, 11);
    CHECK(signed_by(&v, false, md5, sizeof(md5)));
    torment_vector(false, md5, sizeof(md5));

    test_begin("RFC 8489 B.1, erratum 6268");
    if (!load_vector("rfc8489-B.1"))
        return;
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK_EQ(stun_get_bytes(&v, A_userhash, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, hash, 32);
    CHECK_EQ(stun_get_bytes(&v, A_password_algorithm, &value, &len), STUN_OK);
    CHECK_BYTES(value, len, "\0\2\0\0", 4);
    CHECK(signed_by(&v, true, sha256, sizeof(sha256)));
    CHECK(!signed_by(&v, true, md5, sizeof(md5)));
    torment_vector(true, sha256, sizeof(sha256));

    test_begin("RFC 8489 B.1 as printed is wrong twice");
    if (!load_vector("rfc8489-B.1-printed"))
        return;
    CHECK_EQ(vector_len, 156);
    CHECK_EQ(verdict_of(vector, vector_len), STUN_ERR_BAD_LENGTH);
    store16(vector + 2, (uint16_t)(vector_len - STUN_HEADER_LEN));
    CHECK_EQ(stun_parse(&v, vector, vector_len), STUN_OK);
    CHECK(!signed_by(&v, true, sha256, sizeof(sha256)));
    CHECK(!signed_by(&v, true, md5, sizeof(md5)));
}

/* The builder pads with zero, so only the vectors that do can come out byte for byte. */
static void rebuilt_vectors(void)
{
    uint8_t buf[512], k[STUN_KEY_SHA256_LEN];
    struct stun_builder b;

    test_begin("RFC 5769 2.4 built");
    if (!load_vector("rfc5769-2.4"))
        return;
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, vector + 8);
    stun_put_bytes(&b, A_username, LONG_USER, 18);
    stun_put_bytes(&b, A_nonce, "f//499k954d6OL34oL9FSTvy64sA", 28);
    stun_put_bytes(&b, A_realm, REALM, 11);
    stun_key_md5(LONG_USER, 18, REALM, 11, PASSWORD, 9, k);
    stun_put_integrity(&b, k, STUN_KEY_MD5_LEN);
    CHECK_BYTES(buf, stun_build_end(&b), vector, vector_len);

    test_begin("RFC 8489 B.1 built");
    if (!load_vector("rfc8489-B.1"))
        return;
    uint8_t hash[32];
    stun_userhash(LONG_USER, 18, REALM, 11, hash);
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, vector + 8);
    stun_put_bytes(&b, A_userhash, hash, 32);
    stun_put_bytes(&b, A_nonce, "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA", 41);
    stun_put_bytes(&b, A_realm, REALM, 11);
    stun_put_bytes(&b, A_password_algorithm, "\0\2\0\0", 4);
    stun_key_sha256(LONG_USER, 18, REALM, 11, PASSWORD, 9, k);
    stun_put_integrity_sha256(&b, k, STUN_KEY_SHA256_LEN);
    CHECK_BYTES(buf, stun_build_end(&b), vector, vector_len);
}

int main(void)
{
    short_term_vectors();
    long_term_vectors();
    rebuilt_vectors();
    return test_end("stun_vectors");
}
