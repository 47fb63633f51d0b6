/*
 * The cookie of DTLS (RFC 6347 4.2.1): who has not shown that he gets what is sent to his address
 * is asked to, and nothing is kept of him (threat X28). It is a code over the address and what the
 * ClientHello begins with, good for half a minute.
 */
#ifndef MEERKAT_GREET_H
#define MEERKAT_GREET_H

#include "shard.h"

/* True when the hello has a good cookie; else it is answered with one, where strangers may be. */
bool greet(struct shard *sh, struct listener *l, const struct flow *f, const struct dtls_hello *h);

#endif
