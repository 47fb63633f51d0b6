/*
 * What a worker has: its io, its tables, its mailboxes, its counters. Everything that concerns one
 * client happens in one worker, so nothing here is locked. Knows no thread and no message: who
 * reads packets and mail stands above.
 */
#ifndef MEERKAT_SHARD_H
#define MEERKAT_SHARD_H

#include <stdatomic.h>
#include <string.h>

#include "association.h"
#include "clock.h"
#include "ctl.h"
#include "front.h"
#include "journal.h"
#include "letters.h"
#include "mailbox.h"
#include "owed.h"
#include "pending.h"
#include "proxied.h"
#include "ratelimit.h"
#include "roam.h"
#include "session.h"
#include "splice.h"
#include "stream.h"
#include "stun.h"

enum {
    REQUEST_MAX = 4096, /* bytes a request may have */
    RANDOM_POOL = 4096,
    PROMISE_MAX = 512,   /* bytes of an ANSWER_IF */
    PROXIED_IDLE = 4096, /* clients behind proxies of datagrams that are known without session */
};

/* What all workers take from. */
struct limits {
    struct ratelimit unauthenticated; /* answers to strangers */
    struct ratelimit failures;        /* requests with a good nonce and wrong credentials */
    struct shared_bucket total;
    struct shared_bucket *users; /* by the number of BUCKET; sessions_max + 1 of them */
    uint32_t users_max;
    struct stream_limits streams;
    _Atomic uint32_t grants_epoch; /* grants of any other are void, at once */
    _Atomic bool away;             /* Erlang is: nothing is asked of it */
};

struct shard_config {
    unsigned index, workers;
    uint32_t sessions_max, peers_max, credits;
    uint32_t nonce_lifetime_s, nonce_features;
    uint8_t nonce_key[STUN_NONCE_KEY_LEN];
    uint16_t channel_max;
    bool rfc3489;
    bool shortcuts;
    struct offload *offload; /* the kernel's own path; NULL: there is none */
    uint32_t grants_epoch;   /* as this worker was told it, with what follows */
    bool prompt;             /* Erlang wants to hear of each answer within a grant at once */
    uint8_t software_len;
    char software[GRANT_SOFTWARE_MAX]; /* of answers within grants */
    struct limits *limits;
    struct shard *const *neighbours; /* every worker's, by index, this one's too */
};

/* ANSWER_IF, for the command behind it. */
struct promise {
    uint32_t ref; /* 0: none */
    uint64_t flow;
    size_t len;
    uint8_t packet[PROMISE_MAX];
};

struct shard {
    struct shard_config config;
    struct clock_time time;
    struct io *io;
    struct ways ways;
    struct sessions sessions;
    struct streams streams;
    struct splices splices;
    struct proxieds proxieds;
    struct front *front; /* NULL: nobody stands beside us */
    struct associations associations;
    struct tcp_relays tcp;
    struct policy *policy;          /* never NULL; before Erlang's nobody may be reached */
    _Atomic uint32_t policy_number; /* another with each policy; others look at it, too */
    uint32_t sweep_at, sweep_left;  /* places of permissions to hold against it (judge.c) */
    struct offloading {
        int hops;          /* a socket to ask the kernel for the next one with */
        uint32_t at, left; /* places of sessions in this round */
        uint64_t round;    /* when the next one begins */
        unsigned asked;    /* the kernel, in this turn */
        bool held;
    } offloading; /* offloading.c */
    struct listener listeners[LISTENERS_MAX];
    unsigned listeners_used; /* the first so many are in use, or were */
    struct mailbox in, out;
    struct letters letters;  /* from neighbours */
    bool wrote[WORKERS_MAX]; /* to which neighbours in this turn: they are woken at its end */
    bool wrote_any;
    bool rang;        /* something was posted since the doorbell was last rung */
    bool holding;     /* no datagram is to be received, and the control thread waits to hear so */
    bool calm;        /* something was posted without haste since then */
    uint64_t ring_at; /* when what was posted without haste is rung for, 0: nothing is */
    struct roamers roamers;
    struct pendings pending;
    struct promise promise;
    struct journal journal; /* of answers within grants; not open: they go by the way out */
    bool knocked;           /* Erlang was told that there is much in it */
    struct owed owed;       /* where it is not open */
    struct {
        uint64_t next, told; /* notice.c: when Erlang may hear again; how many when it did last */
    } over_rate, closed_port;
    _Atomic uint64_t counters[COUNTER_COUNT]; /* written here, read by anyone */
    uint8_t random[RANDOM_POOL];
    size_t random_left;
};

/* Everything but the io. 0 or -errno. */
int shard_init(struct shard *sh, const struct shard_config *config, struct clock_time start);
/* The io's sockets are closed. Mail that is left must have been discarded. */
void shard_destroy(struct shard *sh);

/* Bytes for transaction ids, from the kernel's generator by the page. */
void shard_more_random(struct shard *sh);
static inline void shard_random(struct shard *sh, void *out, size_t len)
{
    if (UNLIKELY(sh->random_left < len))
        shard_more_random(sh);
    sh->random_left -= len;
    memcpy(out, sh->random + sh->random_left, len);
}

/* The listener of that id, or NULL. */
struct listener *shard_listener(struct shard *sh, uint32_t id);

/* Its socket is closed: its place is free, and its certificates have one holder fewer. */
void shard_listener_closed(struct listener *l);

/* The listener a flow came in by; NULL when it is gone. */
static inline struct listener *shard_listener_of(const struct shard *sh, const struct flow *f)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    return LIKELY(e) ? e->listener : NULL;
}

/* The flow of a client as messages between threads name it; false where he is not there (any more).
 */
bool shard_reach(struct shard *sh, uint32_t listener, uint8_t kind, const struct addr *client,
                 const struct addr *server, struct flow *out);

/* That many milliseconds from now, as a deadline. */
static inline uint64_t shard_in_ms(const struct shard *sh, uint32_t ms)
{
    return sh->time.now + ms * NS_PER_MS;
}

#endif
