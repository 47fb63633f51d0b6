/*
 * Binding, answered on the spot (RFC 8489 6.3.1.1, 12): XOR-MAPPED-ADDRESS and nothing more, so
 * that a spoofed question buys as little traffic as can be (threat X20). No state, no credentials.
 */
#include "input.h"

enum { BINDING_RESPONSE_MAX = STUN_HEADER_LEN + 4 + 20 + 8 };

void binding_request(struct worker *w, const struct flow *f, const struct stun_view *v)
{
    if (v->unknown_count) {
        respond_error(w, f, v, 420);
        return;
    }
    struct stun_builder b;
    uint8_t *buf = io_scratch(w->io, BINDING_RESPONSE_MAX);
    stun_build_response(&b, buf, BINDING_RESPONSE_MAX, STUN_SUCCESS, v);
    stun_put_addr(&b, A_xor_mapped_address, &f->client);
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    size_t len = stun_build_end(&b);
    if (len)
        f->transport->send(w, f, buf, len);
    count(w, CTR_bindings);
}
