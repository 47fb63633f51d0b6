/*
 * The cookie of DTLS (RFC 6347 4.2.1): a client that has not shown that it receives at its address
 * is asked to, and nothing is kept for it (threat X28). The cookie is a code over the address and
 * the beginning of the ClientHello, good for half a minute.
 */
#ifndef MEERKAT_GREET_H
#define MEERKAT_GREET_H

#include "shard.h"

/* True when the hello has a good cookie; else it is answered with one, where strangers may be. */
bool greet(struct shard *sh, const struct flow *f, const struct dtls_hello *h);

#endif
