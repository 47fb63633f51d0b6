/*
 * Datagrams of DTLS on their way to a client: straight to him, or to the proxy that speaks for him.
 */
#ifndef MEERKAT_DTLS_OUT_H
#define MEERKAT_DTLS_OUT_H

#include "shard.h"

/* One; data as for io_send. below: the way of UDP that the client came by. */
void dtls_out(struct shard *sh, struct way below, const struct flow *f, const uint8_t *data,
              size_t len);
/* All that a call of dtls.h has written; they are copied. */
void dtls_out_all(struct shard *sh, struct way below, const struct flow *f, const uint8_t *data,
                  size_t len);

#endif
