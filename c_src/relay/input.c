/*
 * Where a packet goes.
 *
 *   first byte 0x40-0x7f   ChannelData                       -> forward.c (or move.c)
 *   first byte 0-3         STUN, by class and method:
 *                            Binding request, indication      -> binding.c
 *                            Allocate, Refresh, CreatePermission, ChannelBind request
 *                                -> challenge.c, and what passes -> request.c -> Erlang
 *                            Send indication                  -> forward.c
 *   anything else          dropped, counted
 *
 * Errors are only ever sent to well-formed requests of a known method (RFC 8489 6.3; threats X23,
 * X24, X63): no answer to an indication, to a response, or to noise.
 */
#include "input.h"

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
static bool is_relayed_by_us(const struct worker *w, const struct addr *client)
{
    return ports_live_at(w->config.ports, client) != NULL;
}

/* Answers without credentials come out of the asker's budget, where his address proves nothing. */
bool may_answer(struct worker *w, const struct flow *f)
{
    if (ratelimit_take(&w->config.limits->unauthenticated, &f->client, w->time.now))
        return true;
    count(w, CTR_over_rate);
    return false;
}

static void input_request(struct worker *w, const struct flow *f, struct stun_view *v)
{
    if (UNLIKELY(!f->listener->open) && !session_find(&w->sessions, f)) {
        count(w, CTR_no_allocation); /* the listener stays for those who have one */
        return;
    }
    if (UNLIKELY(v->method == STUN_ALLOCATE && is_relayed_by_us(w, &f->client))) {
        count(w, CTR_relayed_source);
        return;
    }
    switch (v->method) {
    case STUN_BINDING:
        binding_request(w, f, v);
        return;
    case STUN_ALLOCATE:
    case STUN_REFRESH:
    case STUN_CREATE_PERMISSION:
    case STUN_CHANNEL_BIND:
        if (challenge_passed(w, f, v))
            request_forward(w, f, v->data, v->len);
        return;
    default:
        count(w, CTR_unknown_method);
    }
}

static void input_indication(struct worker *w, const struct flow *f, const struct stun_view *v,
                             uint8_t *data)
{
    if (v->method != STUN_SEND && v->method != STUN_BINDING) {
        count(w, CTR_unknown_method);
        return;
    }
    if (v->unknown_count) {
        count(w, CTR_unknown_attribute); /* RFC 8489 6.3.2 */
        return;
    }
    if (v->method == STUN_BINDING)
        return; /* a keepalive */
    struct session *s = session_find(&w->sessions, f);
    if (LIKELY(s && session_alive(s, w->time.now)))
        forward_send(w, s, v);
    else if (!move_carry(w, f, data, v->len))
        count(w, CTR_no_allocation);
}

static void input_stun(struct worker *w, const struct flow *f, uint8_t *data, size_t len)
{
    struct stun_view v;
    enum stun_err err = stun_parse(&v, data, len);
    if (err) {
        if (err != STUN_ERR_BAD_COOKIE || !binding_classic(w, f, data, len))
            count(w, drop_reason(err));
        return;
    }
    switch (v.cls) {
    case STUN_REQUEST:
        input_request(w, f, &v);
        break;
    case STUN_INDICATION:
        input_indication(w, f, &v, data);
        break;
    default:
        count(w, CTR_response_class);
    }
}

void input_message(struct worker *w, const struct flow *f, uint8_t *data, size_t len)
{
    if (UNLIKELY(len == 0)) {
        count(w, CTR_too_short);
        return;
    }
    switch (stun_demux(data[0])) {
    case DEMUX_CHANNEL: {
        struct session *s = session_find(&w->sessions, f);
        if (LIKELY(s && session_alive(s, w->time.now)))
            forward_channel(w, s, data, len);
        else if (!move_carry(w, f, data, len))
            count(w, CTR_no_allocation);
        break;
    }
    case DEMUX_STUN:
        input_stun(w, f, data, len);
        break;
    default:
        count(w, CTR_not_stun);
    }
}

/* Without integrity or credentials: what is wrong is said to whoever asks (RFC 8489 6.3.1.1). */
void respond_error(struct worker *w, const struct flow *f, const struct stun_view *v, uint16_t code)
{
    struct stun_builder b;
    count(w, CTR_bad_requests);
    if (!may_answer(w, f))
        return;
    uint8_t *buf = io_scratch(w->io, 128);
    stun_build_response(&b, buf, 128, STUN_ERROR, v);
    stun_put_error(&b, code, NULL);
    if (code == 420)
        stun_put_unknown(&b, v->unknown, v->unknown_count);
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    size_t len = stun_build_end(&b);
    if (len)
        f->transport->send(w, f, buf, len);
}
