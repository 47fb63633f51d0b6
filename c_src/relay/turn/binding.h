/*
 * Binding requests, of STUN and of the older RFC 3489, are answered on the spot.
 */
#ifndef MEERKAT_BINDING_H
#define MEERKAT_BINDING_H

#include "shard.h"

/* A request to Binding is answered, an indication is a keepalive. l is the listener it came by. */
void binding_request(struct shard *sh, const struct listener *l, const struct flow *f,
                     struct stun_view *v);

/* A Binding request without magic cookie (RFC 3489), as far as it is one; false otherwise. */
bool binding_classic(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len);

/* The same over DTLS, where it is answered 500. */
bool binding_refused(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len);

#endif
