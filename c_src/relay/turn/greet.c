#include "greet.h"

#include "answer.h"
#include "count.h"
#include "dtls_out.h"

enum { STAMP_LEN = 4, CODE_LEN = DTLS_COOKIE_LEN - STAMP_LEN, GOOD_S = 30 };

/* What is asked for at that time. */
static void make_cookie(const struct shard *sh, const struct flow *f, const struct dtls_hello *h,
                        uint32_t stamp, uint8_t out[DTLS_COOKIE_LEN])
{
    uint8_t code[SHA256_LEN], ports[5] = {f->client.family};
    store16(ports + 1, f->client.port);
    store16(ports + 3, f->server.port);
    store32(out, stamp);
    const struct crypto_part parts[] = {
        {out, STAMP_LEN},   {ports, sizeof(ports)},       {f->client.ip, 16},
        {f->server.ip, 16}, {h->random, DTLS_RANDOM_LEN}, {h->session, h->session_len},
    };
    crypto_hmac_sha256(sh->associations.cookie_key, sizeof(sh->associations.cookie_key), parts,
                       ARRAY_SIZE(parts), code);
    memcpy(out + STAMP_LEN, code, CODE_LEN);
}

static bool is_good(const struct shard *sh, const struct flow *f, const struct dtls_hello *h)
{
    uint8_t expected[DTLS_COOKIE_LEN];
    if (h->cookie_len != DTLS_COOKIE_LEN)
        return false;
    uint32_t stamp = load32(h->cookie);
    if (sh->time.wall_s - stamp > GOOD_S)
        return false; /* or of the future */
    make_cookie(sh, f, h, stamp, expected);
    return crypto_equal(expected, h->cookie, DTLS_COOKIE_LEN);
}

bool greet(struct shard *sh, const struct flow *f, const struct dtls_hello *h)
{
    uint8_t cookie[DTLS_COOKIE_LEN];
    if (is_good(sh, f, h))
        return true;
    if (!answer_allowed(sh, f))
        return false;
    make_cookie(sh, f, h, sh->time.wall_s, cookie);
    uint8_t *out = io_scratch(sh->io, DTLS_VERIFY_LEN);
    dtls_verify_build(h, cookie, out);
    count(sh, CTR_dtls_hellos);
    dtls_out(sh, f->way, f, out, DTLS_VERIFY_LEN);
    return false;
}
