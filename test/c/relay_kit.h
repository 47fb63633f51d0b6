/*
 * A worker on the fake io and a clock the test turns: commands in, frames out, datagrams both ways.
 */
#ifndef MEERKAT_RELAY_KIT_H
#define MEERKAT_RELAY_KIT_H

#include "fake_io.h"
#include "mail.h"
#include "worker.h"

enum { KIT_CREDITS = 64 };

struct kit {
    struct worker worker;
    struct shard neighbour; /* worker 1, as far as it gets letters */
    struct shard *shards[WORKERS_MAX];
    struct ports ports;
    struct limits limits;
    struct shared_bucket users[8];
    struct io *io;
    bool real; /* sockets are the kernel's: the server's port is what it gave */
    struct listener *listener;
    struct addr server, client, peer;
    uint32_t ref;
};

/* Its IPv4 address, 127.0.0.1 unless another is set before the start. */
extern const char *kit_home;

/* A worker with one listener at server (127.0.0.1:3478) and, in pools 1 and 2, relay addresses
 * 127.0.0.1 and ::1 of real ports; policy allows everything the relay itself does not forbid. */
void kit_start(struct kit *k);
/* The same on a backend of io.h, on loopback, with real sockets. */
void kit_start_on(struct kit *k, enum backend backend);
void kit_stop(struct kit *k);
/* Ends whatever there is, as kit_stop does, and is back at the start without making all of it
 * anew. False when something was left behind: an object, a timer, a port, a socket, a credit. */
bool kit_reset(struct kit *k);

/* Moves the clock and lets the worker turn. */
void kit_turn(struct kit *k, uint64_t forward_ms);

/* Allow (bits 0) or one rule of deny before it. */
void kit_policy(struct kit *k, const struct addr *deny, unsigned bits);

/* A policy of these bytes of POLICY (ctl.def); the worker turns once. */
void kit_rules(struct kit *k, const uint8_t *rules, size_t len);

/* Mail for the worker, who reads it in his next turn. */
void kit_mail(struct kit *k, enum mail kind, const void *data, size_t len);

/* Mails a command and turns; the ref is set. */
void kit_command(struct kit *k, struct ctl_frame *f);
/* The next frame for Erlang; bytes fields lie in memory that is good until the next call. Port
 * releases are carried out on the way. */
bool kit_frame(struct kit *k, struct ctl_frame *out);
/* Has the worker said that nobody is left at the listener? Discards all it has said. */
bool kit_listener_idle(struct kit *k, uint32_t id);
/* Tells it that nobody is left there in any worker. */
void kit_listener_over(struct kit *k, uint32_t id);
/* Command, then its reply, whose status is returned. */
uint16_t kit_ask(struct kit *k, struct ctl_frame *f);

/* Allocates for k->client: IPv4, IPv6 or both; the session as the worker has it, or NULL. */
struct session *kit_allocate(struct kit *k, uint64_t id, bool v4, bool v6, uint32_t lifetime_ms);
/* k->client at the first listener. */
struct mail_flow kit_flow(const struct kit *k);
/* Moves the session to where k->client is now, as if that came to worker `home`. */
uint16_t kit_move(struct kit *k, uint64_t session, unsigned home);
/* A second listener, for RFC 5780; both know each other. */
struct listener *kit_listen(struct kit *k, uint32_t id, const struct addr *local,
                            const struct addr *other);
uint16_t kit_permit(struct kit *k, uint64_t session, const struct addr *peer, uint32_t ms);
uint16_t kit_channel(struct kit *k, uint64_t session, uint16_t number, const struct addr *peer,
                     uint32_t channel_ms, uint32_t permission_ms);

/* A datagram from the client, from a peer to a relayed address; the worker turns. */
void kit_from_client(struct kit *k, const void *data, size_t len);
void kit_from_peer(struct kit *k, struct relayed *r, const struct addr *from, const void *data,
                   size_t len);

uint64_t kit_count(struct kit *k, enum counter c);

#endif
