/*
 * Payload between clients and peers. What it may not know: how the allocation came to be.
 */
#ifndef MEERKAT_FORWARD_H
#define MEERKAT_FORWARD_H

#include "shard.h"

/* ChannelData from a client; Send indication; datagram from a peer; what ICMP said of one to it. */
void forward_channel(struct shard *sh, struct session *s, uint8_t *data, size_t len);
void forward_send(struct shard *sh, struct session *s, const struct stun_view *v);
void forward_peer(struct shard *sh, struct relayed *r, struct io_packet *p);
void forward_icmp(struct shard *sh, struct relayed *r, const struct io_icmp *icmp);

#endif
