/*
 * Many TURN clients and the peers they talk to, over non-blocking sockets and one epoll: opens
 * sockets, carries out plans (rows of requests, with RFC 8489's retransmissions), and hands on what
 * arrives from either side. What traffic there is, and how often a plan is begun, others decide.
 */
#ifndef BENCH_FLEET_H
#define BENCH_FLEET_H

#include <signal.h>

#include "histogram.h"
#include "options.h"
#include "turn.h"

enum { PEERS_MAX = 64 };

struct fleet {
    const struct options *o;
    struct turn_login login;
    bool raw; /* no server: clients and peers face each other */

    struct turn_client *clients;
    unsigned size;
    struct addr peers[PEERS_MAX];
    int peer_fds[PEERS_MAX];
    unsigned peer_count;
    int *shared; /* o->clients sockets, or none */
    int epoll;

    uint32_t *active; /* clients that wait for an answer */
    unsigned active_count;
    uint64_t next_look; /* at their deadlines */
    unsigned sockets_opened;

    struct histogram latency[STEPS]; /* of a step, its challenges included */
    uint64_t well[STEPS];
    uint64_t failed[TURN_CODES];
    uint64_t answers, retransmitted;

    void *ctx; /* of the two below, which may be NULL */
    /* A plan came to its end, by c->code well or not. */
    void (*on_end)(void *ctx, struct turn_client *c, uint64_t now);
    /* A payload arrived, at a peer or at a client. */
    void (*on_packet)(void *ctx, bool at_peer, const uint8_t *data, size_t len, uint64_t now);
};

/* Set by SIGINT and SIGTERM: what runs stops, deletes and reports. */
extern volatile sig_atomic_t fleet_interrupted;

/* Plans: what a client does to be ready, to stay so, to leave, and all of it; what strangers ask.
 */
extern const enum turn_step plan_up[], plan_up_channels[], plan_up_permission[],
    plan_keep_channels[], plan_keep_permission[], plan_keep_all[], plan_down[], plan_cycle[],
    plan_binding[], plan_challenge[];

/* Monotonic, in nanoseconds. */
uint64_t fleet_now(void);

/* The server that a client talks to. */
static inline const struct addr *fleet_server(const struct fleet *f, const struct turn_client *c)
{
    return &f->o->servers[c->index % f->o->server_count];
}

/* Whom it has channels to. */
static inline const struct addr *fleet_peers(const struct fleet *f, const struct turn_client *c)
{
    return f->o->pairs ? &f->clients[c->index ^ 1].relayed : f->peers;
}

/* Opens the peers' sockets, and room for `size` clients without sockets. 0 or -1, stderr says why.
 */
int fleet_open(struct fleet *f, const struct options *o, unsigned size);
void fleet_close(struct fleet *f);

/* Gives the client a socket, or its place on a shared one. 0 or -errno. */
int fleet_client_open(struct fleet *f, struct turn_client *c);
/* Gives all of them one. 0, or -1 after saying why not. */
int fleet_open_sockets(struct fleet *f);
void fleet_client_close(struct fleet *f, struct turn_client *c);

/* Begins a plan; a client has one at a time. */
void fleet_begin(struct fleet *f, struct turn_client *c, const enum turn_step *plan, uint64_t now);

/* Waits up to `wait` ns for datagrams, takes in what is there, retransmits what is due. */
void fleet_poll(struct fleet *f, uint64_t wait);

/* Lets clients [first, first + count) carry out a plan, o->in_flight at once, and waits for all.
 * Those that have no socket get one. With `allocated`, only clients that have an allocation take
 * part, and an interruption does not end it. Returns how many did not come to a good end; -1 when a
 * socket could not be opened, and stderr says why. */
int fleet_all(struct fleet *f, unsigned first, unsigned count, const enum turn_step *plan,
              bool allocated);

/* Has nothing but failures come of as many as may be under way at once? More would tell no more. */
bool fleet_is_hopeless(const struct fleet *f);

/* Says on stderr which failures there were since the start; how many. */
uint64_t fleet_failures(const struct fleet *f);

#endif
