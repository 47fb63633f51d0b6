/*
 * TCP clients, and TLS ones: connections accepted here, messages as stun/frame.h finds them (RFC
 * 8489 6.2.2).
 */
#ifndef MEERKAT_TCP_H
#define MEERKAT_TCP_H

#include "transport.h"

extern const struct transport transport_tcp, transport_tls;

/* The connection of a flow; NULL when it is gone, or the flow is none of TCP. */
struct stream *tcp_stream(struct shard *sh, const struct flow *f);

#endif
