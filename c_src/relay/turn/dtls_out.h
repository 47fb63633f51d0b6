/*
 * Datagrams of DTLS on their way to a client.
 */
#ifndef MEERKAT_DTLS_OUT_H
#define MEERKAT_DTLS_OUT_H

#include "shard.h"

/* One; data as for io_send. */
void dtls_out(struct shard *sh, struct listener *l, const struct flow *f, const uint8_t *data,
              size_t len);
/* All that a call of dtls.h has written; they are copied. */
void dtls_out_all(struct shard *sh, struct listener *l, const struct flow *f, const uint8_t *data,
                  size_t len);

#endif
