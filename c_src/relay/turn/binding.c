/*
 * Binding, answered on the spot (RFC 8489 6.3.1.1, 12): XOR-MAPPED-ADDRESS and nothing more, so
 * that the answer to a spoofed request is hardly longer than the request (threat X20). It keeps no
 * state and asks for no credentials.
 *
 * A listener that was given another address answers NAT behaviour discovery too (RFC 5780):
 * MAPPED-ADDRESS, RESPONSE-ORIGIN, OTHER-ADDRESS; from the other IP or port when CHANGE-REQUEST
 * says so, to another port of the asker's with RESPONSE-PORT, padded with PADDING. Elsewhere these
 * attributes are as unknown as RFC 5780 6.1 wants them.
 */
#include "binding.h"

#include "answer.h"
#include "count.h"

enum {
    PADDING_MAX = 1400, /* what comes back is never more than was sent, nor fragmented for us */
    BINDING_RESPONSE_MAX = STUN_HEADER_LEN + 4 * (4 + 20) + 4 + PADDING_MAX + 8,
    CHANGE_IP = 4,
    CHANGE_PORT = 2,
    PRIVILEGED = 1024,
};

/* The listener of this worker that is bound to exactly that address. */
static const struct listener *listener_at(const struct shard *sh, const struct addr *ip,
                                          uint16_t port)
{
    for (size_t i = 0; i < sh->listeners_used; i++) {
        const struct listener *l = &sh->listeners[i];
        if (l->in_use && l->open && l->local.port == port && addr_ip_equal(&l->local, ip))
            return l;
    }
    return NULL;
}

/* RFC 5780 6.1, the table of sources. NULL where it cannot be done. */
static const struct listener *listener_for(const struct shard *sh, const struct listener *l,
                                           uint64_t change)
{
    const struct addr *ip = change & CHANGE_IP ? &l->other : &l->local;
    uint16_t port = change & CHANGE_PORT ? l->other.port : l->local.port;
    return change & (CHANGE_IP | CHANGE_PORT) ? listener_at(sh, ip, port) : l;
}

/* Adds a row this listener does not serve to the unknown ones of the message. */
static void disown(struct stun_view *v, enum stun_attr_id id)
{
    if (stun_has(v, id) && v->unknown_count < STUN_UNKNOWN_MAX)
        v->unknown[v->unknown_count++] = stun_attr_table[id].code;
}

static void answer(struct shard *sh, const struct flow *f, const struct stun_view *v,
                   const struct addr *origin, const struct addr *other, size_t padding)
{
    static const uint8_t zeros[PADDING_MAX];
    struct stun_builder b;
    uint8_t *buf = io_scratch(sh->io, BINDING_RESPONSE_MAX);
    struct flow to = *f;
    uint64_t port;
    stun_build_response(&b, buf, BINDING_RESPONSE_MAX, STUN_SUCCESS, v);
    stun_put_addr(&b, A_xor_mapped_address, &f->client);
    if (other) {
        stun_put_addr(&b, A_mapped_address, &f->client);
        stun_put_addr(&b, A_response_origin, origin);
        stun_put_addr(&b, A_other_address, other);
        if (stun_has(v, A_padding))
            stun_put_bytes(&b, A_padding, zeros, padding);
        if (stun_get_uint(v, A_response_port, &port) == STUN_OK)
            to.client.port = (uint16_t)port;
    }
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    size_t len = stun_build_end(&b);
    if (len)
        f->transport->send(sh, &to, buf, len);
}

/* RFC 5780: where the answer comes from and goes to, or what is wrong. */
static void discover(struct shard *sh, const struct listener *here, const struct flow *f,
                     struct stun_view *v)
{
    uint64_t change = 0, port = PRIVILEGED;
    const uint8_t *padding = NULL;
    size_t padding_len = 0;
    bool bad =
        (stun_has(v, A_change_request) && stun_get_uint(v, A_change_request, &change) != STUN_OK) ||
        (stun_has(v, A_response_port) &&
         (stun_get_uint(v, A_response_port, &port) != STUN_OK || port < PRIVILEGED)) ||
        (stun_has(v, A_response_port) && stun_has(v, A_padding));
    if (bad) {
        answer_error(sh, f, v, 400);
        return;
    }
    const struct listener *there = listener_for(sh, here, change);
    struct flow from = *f;
    if (!there) { /* the other address is not there (yet) */
        disown(v, A_change_request);
        answer_error(sh, f, v, 420);
        return;
    }
    if (there != here) {
        from.way = there->end.way;
        from.server = there->local;
    }
    if (stun_get_bytes(v, A_padding, &padding, &padding_len) == STUN_OK)
        padding_len = MIN(padding_len, (size_t)PADDING_MAX);
    answer(sh, &from, v, &from.server, &here->other, padding_len);
}

void binding_request(struct shard *sh, const struct listener *l, const struct flow *f,
                     struct stun_view *v)
{
    /* Behind a proxy there is no discovery: all answers leave by the proxy. */
    bool discovery = l->other.family != ADDR_NONE && f->way.number == l->end.way.number;
    disown(v, A_priority); /* of ICE, which is spoken between clients */
    disown(v, A_use_candidate);
    if (!discovery) {
        disown(v, A_change_request);
        disown(v, A_padding);
        disown(v, A_response_port);
    }
    if (v->unknown_count) {
        answer_error(sh, f, v, 420);
        return;
    }
    if (!answer_allowed(sh, f))
        return;
    if (discovery)
        discover(sh, l, f, v);
    else
        answer(sh, f, v, NULL, NULL, 0);
    count(sh, CTR_bindings);
}

/* RFC 3489 8.1: the same header, but its transaction id has 16 bytes where the cookie is now. */
static bool is_classic(const uint8_t *data, size_t len)
{
    return len >= STUN_HEADER_LEN && load16(data) == STUN_BINDING &&
           load16(data + 2) == len - STUN_HEADER_LEN && len % 4 == 0;
}

bool binding_refused(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    static const uint8_t error[] = {0x00, 0x09, 0, 4, 0, 0, 5, 0}; /* ERROR-CODE 500 */
    if (!is_classic(data, len))
        return false;
    count(sh, CTR_bad_requests);
    if (!answer_allowed(sh, f))
        return true;
    uint8_t *out = io_scratch(sh->io, STUN_HEADER_LEN + sizeof(error));
    memcpy(out, data, STUN_HEADER_LEN);
    store16(out, 0x0111);
    store16(out + 2, sizeof(error));
    memcpy(out + STUN_HEADER_LEN, error, sizeof(error));
    f->transport->send(sh, f, out, STUN_HEADER_LEN + sizeof(error));
    return true;
}

bool binding_classic(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    if (!sh->config.rfc3489 || !is_classic(data, len))
        return false;
    if (!answer_allowed(sh, f))
        return true;
    bool v4 = f->client.family == ADDR_V4;
    size_t ip_len = v4 ? 4 : 16, value_len = 4 + ip_len;
    uint8_t *out = io_scratch(sh->io, STUN_HEADER_LEN + 4 + value_len);
    struct wbytes b = wbytes_of(out, STUN_HEADER_LEN + 4 + value_len);
    wbytes_put16(&b, 0x0101);
    wbytes_put16(&b, (uint16_t)(4 + value_len));
    wbytes_put(&b, data + 4, 16);
    wbytes_put16(&b, stun_attr_table[A_mapped_address].code);
    wbytes_put16(&b, (uint16_t)value_len);
    wbytes_put16(&b, v4 ? 1 : 2);
    wbytes_put16(&b, f->client.port);
    wbytes_put(&b, f->client.ip + 16 - ip_len, ip_len);
    f->transport->send(sh, f, out, wbytes_len(&b));
    count(sh, CTR_bindings);
    return true;
}
