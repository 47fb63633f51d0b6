/*
 * What the programs about a worker share: a worker, what it sent last, a buffer for what a client
 * says, and the messages that clients say. Header only, as test.h is, for its checks count.
 */
#ifndef MEERKAT_WORKER_KIT_H
#define MEERKAT_WORKER_KIT_H

#include "relay_kit.h"
#include "test.h"

/* Of the session in most cases. */
#define ID 42u

static struct kit k;
static struct fake_sent sent;
static uint8_t buf[2048];

static inline bool took(struct fake_sent *out)
{
    return fake_io_take(k.io, out);
}

static inline bool nothing_sent(void)
{
    struct fake_sent s;
    return !fake_io_take(k.io, &s);
}

static inline size_t send_indication(uint8_t *out, size_t cap, const struct addr *peer,
                                     const char *text)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {1};
    stun_build_start(&b, out, cap, STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, peer);
    stun_put_bytes(&b, A_data, text, strlen(text));
    return stun_build_end(&b);
}

static inline size_t channel_data(uint8_t *out, uint16_t number, const char *text)
{
    size_t len = strlen(text);
    memcpy(out + 4, text, len);
    channel_put_header(out + 4, number, len);
    return len + 4;
}

static inline size_t bare_request(uint8_t *out, size_t cap, uint16_t method)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {2};
    stun_build_start(&b, out, cap, STUN_REQUEST, method, txid);
    return stun_build_end(&b);
}

/* A request as a client makes it after a challenge; the signature is for Erlang to judge. */
static inline size_t signed_request(uint8_t *out, const char *nonce, size_t nonce_len)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {3};
    stun_build_start(&b, out, 1024, STUN_REQUEST, STUN_ALLOCATE, txid);
    stun_put_bytes(&b, A_username, "u", 1);
    stun_put_bytes(&b, A_realm, "example.org", 11);
    stun_put_bytes(&b, A_nonce, nonce, nonce_len);
    stun_put_integrity(&b, "key", 3);
    return stun_build_end(&b);
}

static inline uint16_t error_code(const struct fake_sent *s)
{
    struct stun_view v;
    uint16_t code = 0;
    uint8_t family;
    const uint8_t *reason;
    size_t len;
    if (stun_parse(&v, s->data, s->len) == STUN_OK)
        stun_get_error(&v, A_error_code, &code, &family, &reason, &len);
    return code;
}

static inline size_t nonce_of(const struct fake_sent *s, char *nonce)
{
    struct stun_view v;
    const uint8_t *value;
    size_t len = 0;
    if (stun_parse(&v, s->data, s->len) == STUN_OK &&
        stun_get_bytes(&v, A_nonce, &value, &len) == STUN_OK)
        memcpy(nonce, value, len);
    return len;
}

/* The flow of a request that has come to Erlang. */
static inline uint64_t asked(void)
{
    char nonce[128];
    struct ctl_frame f;
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_ALLOCATE));
    CHECK(took(&sent));
    kit_from_client(&k, buf, signed_request(buf, nonce, nonce_of(&sent, nonce)));
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_REQUEST);
    return f.u.request.flow;
}

#define RUN(f) (test_begin(#f), f())

#endif
