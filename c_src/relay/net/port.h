/*
 * Relayed ports: which are free, which live, which are held for a reservation token. Belongs to
 * the control thread, who opens and binds the sockets, so that workers never wait for it; workers
 * only ask whether a port of ours is live.
 */
#ifndef MEERKAT_PORT_H
#define MEERKAT_PORT_H

#include <stdatomic.h>

#include "left.h"
#include "socket.h"

enum {
    POOLS_MAX = 256, /* at a time: those that are open, and those in use */
    RESERVATIONS_MAX = 1024,
    RESERVATION_S = 30, /* RFC 8656 7.2: at least */
};

enum port_even { PORT_ANY = 0, PORT_EVEN = 1, PORT_EVEN_PAIR = 2 };

/* The control thread has one hold of each it knows, and each policy one of those it was made with
 * (policy.h): workers find a pool through their policy, so it outlives what they see of it. */
struct pool {
    _Atomic uint32_t holds;
    uint32_t id;
    struct addr local;      /* bound; port 0 */
    struct addr advertised; /* what clients are told, and what peers of ours may call it; port 0 */
    uint16_t min, max;
    bool closed; /* gives no more ports but to whom names one */
    bool away;   /* `local` is no address of this host now: nothing can be bound to it */
    bool used;   /* has given a port: closed, it is forgotten when the last one is back */
    uint32_t free_count[2];    /* by parity of the port */
    uint16_t *free[2];         /* free ports, in no order */
    uint16_t *position;        /* of a free port in its array, by port - min */
    _Atomic uint8_t *state;    /* enum port_state, by port - min */
    _Atomic uint64_t *session; /* that relays UDP there, likewise; 0: none. Its worker's to say */
};

struct reservation {
    uint64_t token; /* 0: unused */
    uint64_t expires;
    struct pool *pool;
    uint16_t port;
    int fd;
};

struct ports {
    struct pool *pools[POOLS_MAX];
    uint32_t pool_count;
    struct reservation reservations[RESERVATIONS_MAX];
    uint32_t reserved;
    struct socket_buffers buffers; /* of relayed sockets */
    struct left *left;             /* sockets of another program; NULL: there was none */
    int descriptors;               /* relayed sockets have lower numbers: the rest is kept back */
};

/* A port taken from a pool with the socket bound to it. */
struct port {
    struct pool *pool; /* NULL: none */
    uint16_t port;
    int fd;
    struct socket_past past;
};

void ports_init(struct ports *p, const struct socket_buffers *buffers);
void ports_destroy(struct ports *p);

/* Sockets that are opened from now on get these. */
void ports_buffers(struct ports *p, const struct socket_buffers *buffers);

/* 0, also for a pool that is known with the same values: it is open again. -EEXIST for an id with
 * others; -ENOSPC when as many are open or in use; -ENOMEM; -EINVAL for an empty range or a family
 * mix. */
int ports_add(struct ports *p, uint32_t id, const struct addr *local, const struct addr *advertised,
              uint16_t min, uint16_t max);
struct pool *ports_find(const struct ports *p, uint32_t id);

/* Forgets the closed pools that gave ports and have them all back; were there any? One that gave
 * none yet is kept, for what is replayed may name one, until there is no room for another pool. */
bool ports_sweep(struct ports *p);

struct pool *pool_hold(struct pool *pool);
void pool_drop(struct pool *pool);

/*
 * Takes a port and binds a socket to it: `wanted` if not 0, else one at random. With
 * PORT_EVEN_PAIR the next port is bound too and held under *token for RESERVATION_S.
 * 0, -EADDRINUSE when none is free that fits, or another -errno of the system.
 */
int port_take(struct ports *p, struct pool *pool, uint16_t wanted, enum port_even even,
              uint64_t now, struct port *out, uint64_t *token);

/* The same from any open pool of the family: of the one with this id if there is one, then of those
 * with most ports free. A port that is wanted is wanted of the pool with this id, open or not. */
int ports_take(struct ports *p, uint32_t id, uint8_t family, uint16_t wanted, enum port_even even,
               uint64_t now, struct port *out, uint64_t *token);

/* The same for a relayed address of TCP, whose socket listens: any port, or `wanted`. */
int ports_take_stream(struct ports *p, uint32_t id, uint8_t family, uint16_t wanted,
                      struct port *out);

/* Turns a held port into a taken one. False when the token is unknown, used or over. */
bool port_redeem(struct ports *p, uint64_t token, uint64_t now, struct port *out);

/* Puts a port back whose socket is closed. */
void port_release(struct pool *pool, uint16_t port);

/* Frees reservations that are over; the time of the next one, UINT64_MAX without. */
uint64_t ports_expire(struct ports *p, uint64_t now);

/* Ports free in a pool (none while it is closed or away), and in all pools together. */
uint32_t pool_free(const struct pool *pool);
uint32_t ports_free(const struct ports *p);

/* The worker's, from a port's socket on until it closes that: whose it is. */
static inline void port_set_session(struct pool *pool, uint16_t port, uint64_t session)
{
    atomic_store_explicit(&pool->session[port - pool->min], session, memory_order_relaxed);
}

/* Any thread, of a port of the pool: perhaps gone since. */
static inline uint64_t port_session(const struct pool *pool, uint16_t port)
{
    return atomic_load_explicit(&pool->session[port - pool->min], memory_order_relaxed);
}

/* Any thread: is UDP relayed at this port of the pool by a live allocation? */
bool port_is_live(const struct pool *pool, uint16_t port);
/* Any thread: is TCP? */
bool port_is_stream(const struct pool *pool, uint16_t port);
#endif
