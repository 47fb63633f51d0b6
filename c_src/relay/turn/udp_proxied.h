/*
 * Datagrams of clients that a proxy passes on, each with a header of the PROXY protocol before it.
 * Answers go back to the proxy as they are, from where it reached us: proxies that do this
 * (dnsdist, mmproxy and their like) have a port of their own for each client and expect no header.
 */
#ifndef MEERKAT_UDP_PROXIED_H
#define MEERKAT_UDP_PROXIED_H

#include "mail.h"
#include "shard.h"

/* A datagram from one of the proxies. local: where it came in. */
void udp_proxied_packet(struct shard *sh, struct listener *l, const struct io_packet *p,
                        const struct addr *local);

/* One that another worker has read the header of. */
void udp_proxied_mail(struct shard *sh, const struct mail_proxied *m, const uint8_t *data);

#endif
