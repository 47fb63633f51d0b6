/*
 * DTLS clients: which datagram is whose, and messages to them. What begins otherwise than DTLS is
 * plain UDP's (udp.c).
 */
#ifndef MEERKAT_DTLS_CLIENT_H
#define MEERKAT_DTLS_CLIENT_H

#include "shard.h"

/* A datagram at a listener that has certificates, or had them, and its flow as UDP sees it. False
 * when it is not for DTLS, and plain ones are taken there. */
bool dtls_packet(struct shard *sh, struct listener *l, const struct flow *seen,
                 struct io_packet *p);

/* As transport.h has them. */
void dtls_send(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len);
void dtls_send_channel(struct shard *sh, const struct flow *f, uint16_t number,
                       const struct io_packet *p);
bool dtls_reach(struct shard *sh, struct listener *l, const struct addr *client,
                const struct addr *server, struct flow *out);
void dtls_kept(struct shard *sh, const struct flow *f, bool kept);
const struct tls_session *dtls_session(struct shard *sh, const struct flow *f);

#endif
