/*
 * Counting handshakes of TLS and DTLS that failed, by the reason.
 */
#ifndef MEERKAT_SHAKEN_H
#define MEERKAT_SHAKEN_H

#include "shard.h"

/* The session tells where the handshake failed by what was said; NULL: there was no memory for one.
 */
void shaken_failed(struct shard *sh, enum handshake_end end, const struct tls_session *tls);

#endif
