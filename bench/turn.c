/*
 * Requests and answers of one client.
 */
#include "turn.h"

#include <stdio.h>

#include "crypto.h"

enum { UDP_PROTOCOL = 17, CHALLENGES_MAX = 3 };

static const struct {
    const char *name;
    uint16_t method;
} steps[STEPS] = {
    [STEP_ALLOCATE] = {"allocate", STUN_ALLOCATE},
    [STEP_CHANNEL] = {"channel_bind", STUN_CHANNEL_BIND},
    [STEP_PERMISSION] = {"create_permission", STUN_CREATE_PERMISSION},
    [STEP_REFRESH] = {"refresh", STUN_REFRESH},
    [STEP_DELETE] = {"delete", STUN_REFRESH},
    [STEP_BINDING] = {"binding", STUN_BINDING},
    [STEP_CHALLENGE] = {"challenge", STUN_ALLOCATE},
};

const char *turn_step_name(enum turn_step step)
{
    return steps[step].name;
}

/* Unique among the clients of a run by the first four bytes, in time by the rest. */
static void new_txid(struct turn_client *c)
{
    static uint64_t count;
    if (count == 0)
        crypto_random(&count, sizeof(count));
    store32(c->txid, c->index);
    store64(c->txid + 4, count++);
}

int turn_request(const struct turn_login *login, struct turn_client *c, const struct addr *peers,
                 unsigned family)
{
    struct stun_builder b;
    enum turn_step step = *c->plan;
    new_txid(c);
    stun_build_start(&b, c->request, sizeof(c->request), STUN_REQUEST, steps[step].method, c->txid);
    if (step == STEP_ALLOCATE || step == STEP_CHALLENGE) {
        stun_put_uint(&b, A_requested_transport, UDP_PROTOCOL);
        if (family)
            stun_put_uint(&b, A_requested_address_family, family == 6 ? 2 : 1);
    }
    if (step == STEP_CHANNEL)
        stun_put_uint(&b, A_channel_number, CHANNEL_MIN + c->channel);
    if (step == STEP_CHANNEL || step == STEP_PERMISSION)
        stun_put_addr(&b, A_xor_peer_address, &peers[step == STEP_CHANNEL ? c->channel : 0]);
    if (step == STEP_REFRESH || step == STEP_DELETE)
        stun_put_uint(&b, A_lifetime, step == STEP_REFRESH ? TURN_LIFETIME_S : 0);
    if (c->nonce_len) {
        stun_put_bytes(&b, A_username, login->user, strlen(login->user));
        stun_put_bytes(&b, A_realm, login->realm, login->realm_len);
        stun_put_bytes(&b, A_nonce, c->nonce, c->nonce_len);
        stun_put_integrity(&b, login->key, sizeof(login->key));
    }
    c->request_len = (uint16_t)stun_build_end(&b);
    return c->request_len ? TURN_WELL : TURN_TOO_LONG;
}

bool turn_is_answer(const struct turn_client *c, const struct stun_view *v)
{
    return c->waiting && memcmp(c->txid, v->txid, STUN_TXID_LEN) == 0 &&
           v->method == steps[*c->plan].method;
}

/* 401 to an unsigned request, or 438: what the next is signed with. */
static int challenged(struct turn_login *login, struct turn_client *c, const struct stun_view *v)
{
    const uint8_t *nonce, *realm;
    size_t nonce_len, realm_len;
    if (stun_get_bytes(v, A_nonce, &nonce, &nonce_len) != STUN_OK ||
        stun_get_bytes(v, A_realm, &realm, &realm_len) != STUN_OK)
        return TURN_BAD_ANSWER;
    if (nonce_len > NONCE_MAX || realm_len > REALM_MAX)
        return TURN_TOO_LONG;
    memcpy(c->nonce, nonce, nonce_len);
    c->nonce_len = (uint16_t)nonce_len;
    if (realm_len != login->realm_len || memcmp(realm, login->realm, realm_len) != 0) {
        memcpy(login->realm, realm, realm_len);
        login->realm_len = realm_len;
        stun_key_md5(login->user, strlen(login->user), realm, realm_len, login->password,
                     strlen(login->password), login->key);
    }
    return TURN_AGAIN;
}

static int refused(struct turn_login *login, struct turn_client *c, const struct stun_view *v)
{
    uint16_t code;
    uint8_t family;
    const uint8_t *reason;
    size_t len;
    if (stun_get_error(v, A_error_code, &code, &family, &reason, &len) != STUN_OK)
        return TURN_BAD_ANSWER;
    if (((code == 401 && !c->nonce_len) || code == 438) && c->challenges++ < CHALLENGES_MAX)
        return challenged(login, c, v);
    return code;
}

static bool is_signed(const struct turn_login *login, const struct turn_client *c,
                      const struct stun_view *v)
{
    bool match = false;
    return !c->nonce_len ||
           (stun_check_integrity(v, login->key, sizeof(login->key), &match) == STUN_OK && match);
}

static int succeeded(struct turn_client *c, const struct stun_view *v)
{
    uint64_t lifetime = TURN_LIFETIME_S;
    struct addr mapped;
    switch (*c->plan) {
    case STEP_ALLOCATE:
        if (stun_get_addr(v, A_xor_relayed_address, &c->relayed) != STUN_OK ||
            stun_get_uint(v, A_lifetime, &lifetime) != STUN_OK)
            return TURN_BAD_ANSWER;
        c->lifetime_s = (uint32_t)lifetime;
        c->allocated = true;
        break;
    case STEP_CHANNEL:
        c->channel++;
        break;
    case STEP_REFRESH:
        if (stun_get_uint(v, A_lifetime, &lifetime) != STUN_OK)
            return TURN_BAD_ANSWER;
        c->lifetime_s = (uint32_t)lifetime;
        break;
    case STEP_DELETE:
        c->allocated = false;
        break;
    case STEP_BINDING:
        if (stun_get_addr(v, A_xor_mapped_address, &mapped) != STUN_OK)
            return TURN_BAD_ANSWER;
        break;
    case STEP_CHALLENGE: /* nobody may have one so */
        return TURN_BAD_ANSWER;
    default:
        break;
    }
    return TURN_WELL;
}

int turn_answer(struct turn_login *login, struct turn_client *c, const struct stun_view *v)
{
    if (v->cls == STUN_ERROR) {
        int code = refused(login, c, v);
        return code == TURN_AGAIN && *c->plan == STEP_CHALLENGE ? TURN_WELL : code;
    }
    return is_signed(login, c, v) ? succeeded(c, v) : TURN_BAD_ANSWER;
}

const char *turn_code_text(int code, char *buf, size_t size)
{
    static const struct {
        int code;
        const char *text;
    } texts[] = {
        {TURN_NO_ANSWER, "no answer: unreachable, or not a TURN server"},
        {TURN_REFUSED, "unreachable: nobody listens there"},
        {TURN_BAD_ANSWER, "an answer that is not signed or lacks what it must have"},
        {TURN_TOO_LONG, "realm or nonce too long"},
        {300, "300 Try Alternate"},
        {400, "400 Bad Request"},
        {401, "401 Unauthenticated: wrong credentials"},
        {403, "403 Forbidden"},
        {437, "437 Allocation Mismatch"},
        {438, "438 Stale Nonce"},
        {440, "440 Address Family not Supported"},
        {441, "441 Wrong Credentials"},
        {442, "442 Unsupported Transport Protocol"},
        {443, "443 Peer Address Family Mismatch"},
        {486, "486 Allocation Quota Reached"},
        {508, "508 Insufficient Capacity"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i].code == code)
            return texts[i].text;
    snprintf(buf, size, "%d", code);
    return buf;
}
