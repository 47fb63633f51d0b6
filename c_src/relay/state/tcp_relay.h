/*
 * Relayed addresses of TCP (RFC 6062) as a worker has them: where peers connect to, and the
 * connections with peers, each until its end. Belongs to one worker. Reads and sends nothing by
 * itself.
 */
#ifndef MEERKAT_TCP_RELAY_H
#define MEERKAT_TCP_RELAY_H

#include "cells.h"
#include "io_stream.h"
#include "port.h"
#include "slab.h"
#include "timer.h"

struct session;
struct stream;

enum { PEER_STREAMS = 32 * 1024 }; /* of a worker */

/* The relayed address of an allocation. */
struct tcp_relay {
    struct io_stream io; /* listens */
    struct session *session;
    struct pool *pool;
    uint16_t port;
    uint8_t family;
    bool open;
    uint64_t deadline;
    struct list peers;  /* all of them */
    uint32_t live, max; /* how many that is, and may be */
};

enum peer_state {
    PEER_CONNECTING,
    PEER_FAILED,  /* to connect: Erlang hears of it a while after it asked */
    PEER_WAITING, /* for a client: nothing is read, so that the kernel keeps what comes, and slows
                     the peer down */
    PEER_JOINED,
    PEER_ENDING, /* of no session any more: what waits is sent, then it goes */
};

/* What Erlang has not been told yet. */
enum peer_news { PEER_NO_NEWS, PEER_CONNECTED, PEER_DISCONNECTED };

/* As in DISCONNECTED. */
enum peer_end {
    PEER_DONE = 0,
    PEER_BROKEN = 1,
    PEER_UNJOINED = 2,
    PEER_TOLD = 3,
    PEER_FORBIDDEN = 4,
};

/* A connection with a peer. */
struct peer_stream {
    struct io_stream io;     /* fd -1: there is none (any more) */
    struct tcp_relay *relay; /* NULL when it is ending */
    struct list in_relay;
    struct list in_news;
    struct timer timer;
    struct addr peer; /* as its client calls it */
    uint32_t id;      /* CONNECTION-ID; 0: was never connected */
    uint32_t judged;  /* the number of the policy that allowed the peer last */
    uint64_t since;
    struct stream *client;             /* while it is joined */
    struct chain out;                  /* bytes for the peer that the kernel did not take */
    uint64_t client_bytes, peer_bytes; /* from either */
    int err;                           /* for which it failed */
    uint8_t state, news, end;
    bool incoming;
    bool blocked;             /* the kernel took less than it was given */
    bool heard_end, said_end; /* by the peer, to the peer */
    bool paused;              /* bandwidth is used up */
};

struct tcp_relays {
    struct slab relays, peers;
    struct list news; /* peers of which there is something to tell */
};

/* False without address space. */
bool tcp_relays_init(struct tcp_relays *t, uint32_t sessions_max);
/* Closes all that are left: nobody uses their io any more. */
void tcp_relays_destroy(struct tcp_relays *t, struct cells *cells);

/* NULL when there are too many. */
struct peer_stream *peer_stream_create(struct tcp_relays *t, struct tcp_relay *r,
                                       const struct addr *peer);
/* Of its session no more: it counts no longer. */
void peer_stream_detach(struct peer_stream *p);
/* Forgets it; the descriptor is closed already. */
void peer_stream_free(struct tcp_relays *t, struct cells *cells, struct peer_stream *p);

/* The one with that peer, or with that id; NULL without. */
struct peer_stream *peer_stream_with(const struct tcp_relay *r, const struct addr *peer);
struct peer_stream *peer_stream_by_id(const struct tcp_relay *r, uint32_t id);

#endif
