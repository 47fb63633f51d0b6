/*
 * Long-term keys, the two MESSAGE-INTEGRITYs, and nonces that need no memory.
 * Knows no user and no password: keys come from the caller, who also wipes them.
 */
#include "stun.h"

#include "crypto.h"

_Static_assert((int)STUN_KEY_MD5_LEN == MD5_LEN, "an MD5 key is a digest");
_Static_assert((int)STUN_KEY_SHA256_LEN == SHA256_LEN, "a SHA-256 key is a digest");

/* ------------------------------------------------------------------------------------ keys */

void stun_key_md5(const void *user, size_t user_len, const void *realm, size_t realm_len,
                  const void *password, size_t password_len, uint8_t out[STUN_KEY_MD5_LEN])
{
    const struct crypto_part parts[] = {
        {user, user_len}, {":", 1}, {realm, realm_len}, {":", 1}, {password, password_len}};
    crypto_md5(parts, ARRAY_SIZE(parts), out);
}

void stun_key_sha256(const void *user, size_t user_len, const void *realm, size_t realm_len,
                     const void *password, size_t password_len, uint8_t out[STUN_KEY_SHA256_LEN])
{
    const struct crypto_part parts[] = {
        {user, user_len}, {":", 1}, {realm, realm_len}, {":", 1}, {password, password_len}};
    crypto_sha256(parts, ARRAY_SIZE(parts), out);
}

void stun_userhash(const void *user, size_t user_len, const void *realm, size_t realm_len,
                   uint8_t out[32])
{
    const struct crypto_part parts[] = {{user, user_len}, {":", 1}, {realm, realm_len}};
    crypto_sha256(parts, ARRAY_SIZE(parts), out);
}

/* ------------------------------------------------------------------------------- integrity */

typedef void hmac_fn(const void *key, size_t key_len, const struct crypto_part *parts, size_t n,
                     uint8_t *out);

/*
 * The signature covers everything before it, under a header whose length ends with it; what may
 * follow (X38) is not covered. So the header is copied and its length put right, and the rest is
 * read where it lies.
 */
static enum stun_err check(const struct stun_view *v, enum stun_attr_id id, hmac_fn *hmac,
                           size_t mac_len, const void *key, size_t key_len, bool *match)
{
    const uint8_t *claimed;
    size_t len;
    enum stun_err err = stun_get_bytes(v, id, &claimed, &len);
    if (err != STUN_OK)
        return err;
    if (len != mac_len)
        return STUN_ERR_MALFORMED;

    uint8_t header[STUN_HEADER_LEN];
    size_t before = v->at[id];
    memcpy(header, v->data, sizeof(header));
    store16(header + 2, (uint16_t)(before + STUN_ATTR_HEADER_LEN + mac_len - STUN_HEADER_LEN));
    const struct crypto_part parts[] = {{header, sizeof(header)},
                                        {v->data + STUN_HEADER_LEN, before - STUN_HEADER_LEN}};
    uint8_t mac[SHA256_LEN];
    hmac(key, key_len, parts, ARRAY_SIZE(parts), mac);
    *match = crypto_equal(mac, claimed, mac_len);
    return STUN_OK;
}

enum stun_err stun_check_integrity(const struct stun_view *v, const void *key, size_t key_len,
                                   bool *match)
{
    return check(v, A_message_integrity, crypto_hmac_sha1, SHA1_LEN, key, key_len, match);
}

enum stun_err stun_check_integrity_sha256(const struct stun_view *v, const void *key,
                                          size_t key_len, bool *match)
{
    return check(v, A_message_integrity_sha256, crypto_hmac_sha256, SHA256_LEN, key, key_len,
                 match);
}

/* ---------------------------------------------------------------------------------- nonces */

enum { COOKIE_LEN = 9, FEATURES_LEN = 4, SECOND_LEN = 4, NONCE_MAC_LEN = 14 };
_Static_assert(COOKIE_LEN + FEATURES_LEN + (SECOND_LEN + NONCE_MAC_LEN) / 3 * 4 == STUN_NONCE_LEN,
               "both parts are whole groups of base64, so a nonce has one spelling");

static const char nonce_cookie[] = "obMatJos2";
static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Whole groups only: len is a multiple of 3. */
static void base64_encode(char *out, const uint8_t *in, size_t len)
{
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | in[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *out++ = base64[group >> shift & 63];
    }
}

static bool base64_digit(uint8_t c, uint32_t *out)
{
    const char *at = c ? strchr(base64, c) : NULL;
    if (!at)
        return false;
    *out = (uint32_t)(at - base64);
    return true;
}

void stun_nonce_make(char out[STUN_NONCE_LEN], const uint8_t key[STUN_NONCE_KEY_LEN],
                     uint32_t now_s, uint32_t features, const struct addr *client)
{
    uint8_t feature_bits[3] = {(uint8_t)(features >> 16), (uint8_t)(features >> 8),
                               (uint8_t)features};
    uint8_t port[2], opaque[SECOND_LEN + SHA256_LEN];
    store16(port, client->port);
    store32(opaque, now_s);
    const struct crypto_part parts[] = {{opaque, SECOND_LEN},
                                        {feature_bits, sizeof(feature_bits)},
                                        {client->ip, sizeof(client->ip)},
                                        {port, sizeof(port)}};
    crypto_hmac_sha256(key, STUN_NONCE_KEY_LEN, parts, ARRAY_SIZE(parts), opaque + SECOND_LEN);
    memcpy(out, nonce_cookie, COOKIE_LEN);
    base64_encode(out + COOKIE_LEN, feature_bits, sizeof(feature_bits));
    base64_encode(out + COOKIE_LEN + FEATURES_LEN, opaque, SECOND_LEN + NONCE_MAC_LEN);
}

/* Reads only the second; everything else must be what we would have written at that second. */
bool stun_nonce_check(const uint8_t *nonce, size_t len, const uint8_t key[STUN_NONCE_KEY_LEN],
                      uint32_t now_s, uint32_t lifetime_s, uint32_t features,
                      const struct addr *client)
{
    if (len != STUN_NONCE_LEN)
        return false;
    /* 32 bits are five digits and the top two bits of a sixth. */
    const uint8_t *p = nonce + COOKIE_LEN + FEATURES_LEN;
    uint64_t bits = 0;
    for (size_t i = 0; i < 6; i++) {
        uint32_t digit;
        if (!base64_digit(p[i], &digit))
            return false;
        bits = bits << 6 | digit;
    }
    uint32_t made_s = (uint32_t)(bits >> 4);
    /* A second yet to come makes a huge age. */
    if (now_s - made_s > lifetime_s)
        return false;
    char ours[STUN_NONCE_LEN];
    stun_nonce_make(ours, key, made_s, features, client);
    return crypto_equal(ours, nonce, STUN_NONCE_LEN);
}
