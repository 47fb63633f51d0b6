/*
 * Connections for a web server behind us, passed through untouched: bytes both ways, each side's
 * end to the other, and no more in between than the kernel holds. Reaches nobody but the addresses
 * that the configuration names.
 */
#ifndef MEERKAT_WEB_H
#define MEERKAT_WEB_H

#include "shard.h"

/* Where a connection that begins with this hello belongs: the web server, or NULL, to us. */
const struct addr *web_server(const struct front *f, const struct tls_store *certs,
                              const struct hello *h);

/* A client's connection, of which nothing was read: the descriptor is taken. */
void web_pass(struct shard *sh, int fd, const struct addr *client, const struct addr *server,
              const struct addr *to);

#endif
