/*
 * Where a packet goes.
 *
 *   first byte 0x40-0x7f   ChannelData                       -> forward.c (or move.c)
 *   first byte 0-3         STUN, by class and method:
 *                            Binding request, indication      -> binding.c
 *                            Allocate, Refresh, CreatePermission, ChannelBind, Connect,
 *                            ConnectionBind request
 *                                -> challenge.c, and what passes -> granted.c, or else
 *                                   request.c -> Erlang
 *                            Send indication                  -> forward.c
 *   anything else          dropped, counted
 *
 * Errors are only ever sent to well-formed requests of a known method (RFC 8489 6.3; threats X23,
 * X24, X63): no answer to an indication, to a response, or to noise.
 */
#include "input.h"

#include "answer.h"
#include "binding.h"
#include "challenge.h"
#include "count.h"
#include "forward.h"
#include "granted.h"
#include "move.h"
#include "proxy.h"
#include "request.h"

static enum counter drop_reason(enum stun_err err)
{
    switch (err) {
    case STUN_ERR_TOO_SHORT:
        return CTR_too_short;
    case STUN_ERR_NOT_STUN:
        return CTR_not_stun;
    case STUN_ERR_BAD_COOKIE:
        return CTR_bad_cookie;
    case STUN_ERR_BAD_LENGTH:
        return CTR_bad_length;
    case STUN_ERR_BAD_FINGERPRINT:
        return CTR_bad_fingerprint;
    default:
        return CTR_bad_attribute;
    }
}

/* A loop in the making (RFC 8656 21.1.7, threat X11). */
static bool is_relayed_by_us(const struct shard *sh, const struct addr *client)
{
    return policy_pool_at(sh->policy, client) || policy_stream_pool_at(sh->policy, client);
}

static void input_request(struct shard *sh, const struct listener *l, const struct flow *f,
                          struct stun_view *v)
{
    if (UNLIKELY(!l->open) && !session_find(&sh->sessions, f) && !roamer_find(&sh->roamers, f)) {
        count(sh, CTR_no_allocation); /* the listener stays for those who have one */
        return;
    }
    if (UNLIKELY(v->method == STUN_ALLOCATE && is_relayed_by_us(sh, &f->client))) {
        count(sh, CTR_relayed_source);
        return;
    }
    switch (v->method) {
    case STUN_BINDING:
        binding_request(sh, l, f, v);
        return;
    case STUN_ALLOCATE:
    case STUN_REFRESH:
    case STUN_CREATE_PERMISSION:
    case STUN_CHANNEL_BIND:
    case STUN_CONNECT:
        if (challenge_passed(sh, l, f, v) && !granted_request(sh, l, f, v))
            request_forward(sh, l, f, v->data, v->len);
        return;
    case STUN_CONNECTION_BIND:
        if (challenge_passed(sh, l, f, v))
            request_forward_held(sh, l, f, v->data, v->len);
        return;
    default:
        count(sh, CTR_unknown_method);
    }
}

static void input_indication(struct shard *sh, const struct flow *f, const struct stun_view *v,
                             uint8_t *data)
{
    if (v->method != STUN_SEND && v->method != STUN_BINDING) {
        count(sh, CTR_unknown_method);
        return;
    }
    if (v->unknown_count) {
        count(sh, CTR_unknown_attribute); /* RFC 8489 6.3.2 */
        return;
    }
    if (v->method == STUN_BINDING)
        return; /* a keepalive */
    struct session *s = session_find(&sh->sessions, f);
    if (LIKELY(s && session_alive(s, sh->time.now)))
        forward_send(sh, s, v);
    else if (!move_carry(sh, f, data, v->len))
        count(sh, CTR_no_allocation);
}

/* RFC 3489 is older than DTLS, and may not be spoken over it (RFC 8489 11). */
static bool without_cookie(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    return f->transport->kind == CTL_TRANSPORT_DTLS ? binding_refused(sh, f, data, len)
                                                    : binding_classic(sh, f, data, len);
}

static void input_stun(struct shard *sh, const struct listener *l, const struct flow *f,
                       uint8_t *data, size_t len)
{
    struct stun_view v;
    enum stun_err err = stun_parse(&v, data, len);
    if (err) {
        if (err != STUN_ERR_BAD_COOKIE || !without_cookie(sh, f, data, len))
            count(sh, drop_reason(err));
        return;
    }
    switch (v.cls) {
    case STUN_REQUEST:
        input_request(sh, l, f, &v);
        break;
    case STUN_INDICATION:
        input_indication(sh, f, &v, data);
        break;
    default:
        count(sh, CTR_response_class);
    }
}

void input_message(struct shard *sh, const struct listener *l, const struct flow *f, uint8_t *data,
                   size_t len)
{
    if (UNLIKELY(len == 0)) {
        count(sh, CTR_too_short);
        return;
    }
    switch (stun_demux(data[0])) {
    case DEMUX_CHANNEL: {
        struct session *s = session_find(&sh->sessions, f);
        if (LIKELY(s && session_alive(s, sh->time.now)))
            forward_channel(sh, s, data, len);
        else if (!move_carry(sh, f, data, len))
            count(sh, CTR_no_allocation);
        break;
    }
    case DEMUX_STUN:
        input_stun(sh, l, f, data, len);
        break;
    default:
        count(sh, proxy_seems(data, len) ? CTR_proxy_stranger : CTR_not_stun);
    }
}
