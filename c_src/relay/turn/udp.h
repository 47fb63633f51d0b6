/*
 * UDP clients, with DTLS or without.
 */
#ifndef MEERKAT_UDP_H
#define MEERKAT_UDP_H

#include "shard.h"

extern const struct transport transport_udp, transport_dtls;

#endif
