/*
 * A worker: one thread, one io, its own tables. Everything that concerns one client happens in one
 * worker, so nothing here is locked. It hears from the control thread by mail and answers by mail.
 */
#ifndef MEERKAT_WORKER_H
#define MEERKAT_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "backend.h"
#include "clock.h"
#include "ctl.h"
#include "mailbox.h"
#include "ratelimit.h"
#include "session.h"
#include "stun.h"

enum {
    MAIL_SIZE = 1 << 20,      /* each way, each worker */
    MAIL_RESERVE = 64 * 1024, /* of the way out, kept free of requests */
    REQUEST_MAX = 4096,       /* bytes a request may have */
    RANDOM_POOL = 4096,
    PROMISE_MAX = 512, /* bytes of an ANSWER_IF */
};

/* What workers and the control thread say to each other: the first byte of a mail. */
enum mail {
    MAIL_FRAME = 1, /* both ways: a frame of ctl.def */
    MAIL_LISTEN,    /* to the worker: struct mail_listen */
    MAIL_ALLOC,     /* to the worker: struct mail_alloc */
    MAIL_POLICY,    /* to the worker: struct policy *, which it then owns */
    MAIL_MOVE,      /* to the session's worker: struct mail_move */
    MAIL_ROAM,      /* to the control thread, who passes it to roam.to: struct mail_roam */
    MAIL_CARRY,     /* likewise, to carry.to: struct mail_carry and a client's datagram */
    MAIL_PORT_FREE, /* to the control thread: struct mail_port, whose socket is closed */
    MAIL_IDLE,      /* to the control thread: the number of a listener that has nobody left here */
    MAIL_OVER,      /* to the worker: likewise, nor anywhere else */
};

struct mail_listen {
    uint32_t id;
    int fd; /* -1: the listener is there, and takes realm and other */
    uint8_t transport;
    struct addr local, other;
    size_t realm_len;
    char realm[REALM_MAX];
};

struct mail_alloc {
    uint32_t ref;
    uint64_t session;
    uint32_t listener;
    uint8_t transport;
    struct addr client, server;
    struct port relayed[2]; /* by family; pool NULL where there is none */
    uint16_t status[2];
    uint64_t token;
    uint32_t lifetime_ms;
    uint64_t bytes_per_s;
    uint32_t bucket;
    unsigned home; /* where that client's datagrams come in */
};

struct mail_port {
    struct pool *pool;
    uint16_t port;
};

/* A flow without what only one worker can know. */
struct mail_flow {
    uint32_t listener;
    uint8_t transport;
    struct addr client, server;
};

struct mail_move {
    uint32_t ref;
    uint64_t session;
    struct mail_flow flow;
    unsigned home; /* where that client's datagrams come in */
};

struct mail_roam {
    unsigned to;
    bool add; /* or remove */
    uint64_t session;
    unsigned home; /* the session's worker */
    struct mail_flow flow;
};

struct mail_carry {
    unsigned to;
    uint64_t session;
    struct mail_flow flow;
    uint32_t len; /* bytes that follow */
};

_Static_assert(offsetof(struct mail_roam, to) == 0 && offsetof(struct mail_carry, to) == 0,
               "whoever passes them on reads this much");

/* What all workers take from. */
struct limits {
    struct ratelimit unauthenticated;
    struct shared_bucket total;
    struct shared_bucket *users; /* by the number of BUCKET; sessions_max + 1 of them */
    uint32_t users_max;
};

struct worker_config {
    unsigned index;
    uint32_t sessions_max, peers_max, credits;
    uint32_t nonce_lifetime_s, nonce_features;
    uint8_t nonce_key[STUN_NONCE_KEY_LEN];
    uint16_t channel_max;
    bool rfc3489;
    struct limits *limits;
    struct ports *ports;
    int doorbell; /* eventfd of the control thread */
    /* Tells Erlang what is in `out` without that thread, if it can; NULL: it never can. */
    bool (*tell)(void *ctx, struct worker *w, bool now);
    void *tell_ctx;
    enum backend backend;
};

/* A request Erlang has and has not answered. */
struct pending {
    struct list in_order;
    uint64_t since;
    uint32_t generation;
    struct flow flow;
};

/* ANSWER_IF, for the command behind it. */
struct promise {
    uint32_t ref; /* 0: none */
    uint64_t flow;
    size_t len;
    uint8_t packet[PROMISE_MAX];
};

struct worker {
    struct worker_config config;
    struct clock_time time;
    struct io *io;
    struct sessions sessions;
    struct policy *policy;
    struct listener listeners[LISTENERS_MAX];
    struct mailbox in, out;
    bool rang;             /* something was posted since the doorbell was last rung */
    bool calm;             /* something was posted without haste since then */
    uint64_t ring_at;      /* when what was posted without haste is rung for, 0: nothing is */
    bool mailed;           /* the control thread's: has mail, and was not woken for it yet */
    _Atomic bool starved;  /* work waits for room on the way out: wake when there is some */
    _Atomic bool stopping; /* set by the control thread, then a wake */
    struct slab pending_slab;
    struct list pending; /* oldest first */
    uint32_t pending_generation;
    struct promise promise;
    _Atomic uint64_t counters[COUNTER_COUNT]; /* written here, read by anyone */
    _Atomic uint32_t sessions_live, peers_live, requests_live;
    uint8_t random[RANDOM_POOL];
    size_t random_left;
    pthread_t thread;
};

/* Everything but the io and the thread. 0 or -errno. */
int worker_init(struct worker *w, const struct worker_config *config, struct clock_time start);
void worker_destroy(struct worker *w);

/* Starts the thread with an io of its own; returns once that stands. 0 or -errno. Who joins
 * the thread ends the io. */
int worker_start(struct worker *w);

/* What an io must call. */
struct io_events worker_events(struct worker *w);

/* One turn but for the waiting: mail, packets, sweeping, doorbell. */
void worker_turn(struct worker *w);

/* Control thread: rings the worker. */
static inline void worker_wake(struct worker *w)
{
    io_wake(w->io);
}

static inline void count_n(struct worker *w, enum counter c, uint64_t n)
{
    uint64_t v = atomic_load_explicit(&w->counters[c], memory_order_relaxed);
    atomic_store_explicit(&w->counters[c], v + n, memory_order_relaxed);
}

static inline void count(struct worker *w, enum counter c)
{
    count_n(w, c, 1);
}

/* Bytes for transaction ids, from the kernel's generator by the page. */
void worker_random(struct worker *w, void *out, size_t len);

/* Posts a mail to the control thread. False without room, of which `reserve` bytes must stay. */
bool worker_mail(struct worker *w, enum mail kind, const void *data, size_t len, const void *more,
                 size_t more_len, uint32_t reserve);

/* The listener of that id, or NULL. */
struct listener *worker_listener(struct worker *w, uint32_t id);

/* Posts a frame to Erlang. False when the way out is full, or, for a request, nearly so. */
bool worker_post(struct worker *w, const struct ctl_frame *f, bool request);
/* From here on whatever is posted may wait a moment, for something that may not or until
 * worker_haste, which gets what this returned. For frames that nobody waits for. */
bool worker_calm(struct worker *w);
void worker_haste(struct worker *w, bool rang);

#endif
