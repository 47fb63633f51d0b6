/*
 * Relayed addresses of TCP (RFC 6062): peers that come, peers that clients want to be connected
 * with, and how long either waits for a client to take it up. Erlang decides; here each peer is
 * held against the policy and, where it came by itself, the permissions.
 */
#ifndef MEERKAT_PEER_TCP_H
#define MEERKAT_PEER_TCP_H

#include "mail.h"
#include "shard.h"

/* The session relays at that port, whose socket listens, from here on. False, and the descriptor is
 * the caller's, without memory. */
bool peer_tcp_open(struct shard *sh, struct session *s, const struct port *port, uint64_t deadline,
                   uint32_t connections_max);
/* It does no longer; its connections end. `all`: what their clients have said by now is sent. */
void peer_tcp_close(struct shard *sh, struct session *s, bool all);
/* Gives the port, and what was kept of it, back. */
struct port peer_tcp_release(struct shard *sh, struct session *s);

/* CONNECT, DISCONNECT. */
void peer_tcp_connect(struct shard *sh, const struct ctl_frame *f);
void peer_tcp_disconnect(struct shard *sh, const struct ctl_frame *f);

/* The connection that waits for a client; NULL without. */
struct peer_stream *peer_tcp_waiting(struct shard *sh, uint64_t session, uint32_t connection);

/* Tells Erlang of connections made and ended, as far as there is room. Once a turn. */
void peer_tcp_report(struct shard *sh);

/* Those of a session, as SESSION_STATS has them; how many bytes. */
enum { PEER_ROW = 4 + 2 * 8 };
size_t peer_tcp_rows(const struct session *s, uint8_t *out, size_t cap);

#endif
