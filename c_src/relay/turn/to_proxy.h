/*
 * Datagrams to a client that a proxy speaks for: they go back to the proxy, without a header before
 * them.
 */
#ifndef MEERKAT_TO_PROXY_H
#define MEERKAT_TO_PROXY_H

#include "shard.h"

/* data as for io_send; head is that of ChannelData before it, or NULL. */
void to_proxy(struct shard *sh, struct proxied *p, const uint8_t *head, const uint8_t *data,
              size_t len);

#endif
