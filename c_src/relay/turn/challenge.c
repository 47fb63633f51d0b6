/*
 * The first half of RFC 8489 9.2.4, which needs no secret and keeps no state: a request without
 * integrity earns 401 with realm and nonce; one that lacks what integrity needs, 400; one whose
 * nonce is not ours, not this client's or too old, 438 with a fresh one. Whether the signature is
 * right is for Erlang, and only requests that passed here cost it anything.
 *
 * The nonce is looked at before the signature, the other way round than 9.2.4 lists them: a
 * request with both wrong earns 438 and not 401. In exchange a flood of forged signatures never
 * reaches Erlang without a nonce fetched from the forger's own address.
 */
#include "challenge.h"

#include "answer.h"
#include "capturing.h"
#include "count.h"

/* SHA-256, then MD5, none with parameters: the order of preference (RFC 8489 9.2.4, 18.5.1).
 * meerkat_auth.erl has the same list, to compare it with what requests send back. */
static const uint8_t password_algorithms[] = {0, 2, 0, 0, 0, 1, 0, 0};

enum {
    CHALLENGE_MAX = STUN_HEADER_LEN + 8 + 4 + REALM_MAX + 4 + STUN_NONCE_LEN + 3 + 4 +
                    sizeof(password_algorithms) + 8
};

static void challenge(struct shard *sh, const struct listener *l, const struct flow *f,
                      const struct stun_view *v, uint16_t code)
{
    char nonce[STUN_NONCE_LEN];
    count(sh, code == 401 ? CTR_challenges : CTR_stale_nonces);
    if (!answer_allowed(sh, f))
        return;
    stun_nonce_make(nonce, sh->config.nonce_key, sh->time.wall_s, sh->config.nonce_features,
                    &f->client);
    struct stun_builder b;
    uint8_t *buf = io_scratch(sh->io, CHALLENGE_MAX);
    stun_build_response(&b, buf, CHALLENGE_MAX, STUN_ERROR, v);
    stun_put_error(&b, code, NULL);
    stun_put_bytes(&b, A_realm, l->realm, l->realm_len);
    stun_put_bytes(&b, A_nonce, nonce, sizeof(nonce));
    if (sh->config.nonce_features & STUN_FEATURE_PASSWORD_ALGORITHMS)
        stun_put_bytes(&b, A_password_algorithms, password_algorithms, sizeof(password_algorithms));
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    size_t len = stun_build_end(&b);
    if (!len)
        return;
    capturing_message(sh, f, false, buf, len);
    f->transport->send(sh, f, buf, len);
}

static bool has_text(const struct stun_view *v, enum stun_attr_id id)
{
    const uint8_t *value;
    size_t len;
    return stun_get_bytes(v, id, &value, &len) == STUN_OK;
}

bool challenge_passed(struct shard *sh, const struct listener *l, const struct flow *f,
                      const struct stun_view *v)
{
    capturing_message(sh, f, true, v->data, v->len);
    if (!stun_has(v, A_message_integrity) && !stun_has(v, A_message_integrity_sha256)) {
        challenge(sh, l, f, v, 401);
        return false;
    }
    bool named = has_text(v, A_username) || has_text(v, A_userhash);
    if (!named || !has_text(v, A_realm) || !has_text(v, A_nonce)) {
        answer_error(sh, f, v, 400);
        return false;
    }
    const uint8_t *nonce;
    size_t len;
    stun_get_bytes(v, A_nonce, &nonce, &len);
    if (!stun_nonce_check(nonce, len, sh->config.nonce_key, sh->time.wall_s,
                          sh->config.nonce_lifetime_s, sh->config.nonce_features, &f->client)) {
        challenge(sh, l, f, v, 438);
        return false;
    }
    return true;
}
