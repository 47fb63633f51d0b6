/*
 * What the control thread has: the pipe, the workers, and what these share. Each part is changed by
 * the file that is named with it.
 *
 * A worker that has something for Erlang writes it to the pipe itself where it can (office_tell),
 * so that a request wakes no thread in between. The lock is for that: whoever holds it may empty
 * ways out, release ports and write. The control thread holds it but for where it sleeps; workers
 * never wait for it.
 */
#ifndef MEERKAT_CONTROL_STATE_H
#define MEERKAT_CONTROL_STATE_H

#include <sys/types.h>

#include "handing.h"
#include "host.h"
#include "offload.h"
#include "left_conns.h"
#include "pipe.h"
#include "routes.h"
#include "tether.h"
#include "worker.h"

/* The other rooms do not include ctl.def. Their limits must be those that ctl.def tells Erlang. */
_Static_assert(WORKERS_MAX == (int)CTL_WORKERS_MAX &&
                   LISTENERS_MAX == TRANSPORTS * (int)CTL_LISTENERS_MAX &&
                   REALM_MAX == (int)CTL_REALM_BYTES_MAX + 1 && POOLS_MAX == (int)CTL_POOLS_MAX &&
                   POLICY_RULES_MAX == (int)CTL_RULES_MAX &&
                   PROMISE_MAX == (int)CTL_PROMISE_BYTES_MAX &&
                   GUARDED_MAX == (int)CTL_GUARDED_MAX &&
                   FRONT_PROXIES_MAX == (int)CTL_PROXIES_MAX &&
                   FRONT_NAMES_MAX == (int)CTL_WEB_NAMES_MAX &&
                   GRANT_SOFTWARE_MAX == (int)CTL_SOFTWARE_BYTES_MAX,
               "limits are those of ctl.def");

/* The rules for peers, from Erlang. */
struct rules {
    uint8_t *bytes; /* as POLICY brought them; without any, all peers are denied */
    size_t len;
    struct addr guarded[GUARDED_MAX];
    uint32_t guarded_count;
};

/* The addresses of this host. */
struct watch {
    struct routes routes;
    bool open;           /* routes is open */
    bool told;           /* the kernel's socket is readable */
    bool changed;        /* the kernel has told of a change, and they were not read since */
    int err;             /* of the last reading */
    unsigned torn;       /* readings in a row during which the addresses changed */
    struct host *host;   /* what was read; NULL while the addresses are not known */
    uint64_t not_before; /* the next reading is not earlier than this */
    uint64_t due;        /* and not later, even if no change is told */
};

/* Which file a path names. */
struct name {
    bool there;
    dev_t dev;
    ino_t ino;
};

/* How the program outlives Erlang. */
struct survival {
    int socket; /* where the next Erlang's tether connects; -1: the program ends with Erlang */
    char path[TETHER_PATH];
    struct name name;     /* the socket's file, when it was bound */
    uint64_t look_at;     /* when to look whether the path still names it */
    int guest;            /* a tether that has connected and not sent its pipes yet; -1: none */
    uint64_t guest_until; /* when it is no longer waited for */
    int tether;           /* of the Erlang that is connected now: it waits until we end */
    uint32_t survive_s;   /* from KEEP, like the note */
    uint8_t *note;
    uint32_t note_len;
    bool away;             /* no Erlang governs: none is connected, or it has not said LIVE yet */
    uint64_t since, until; /* while away: from when, and when the program ends */
    unsigned forgetting;   /* workers that still forget the last Erlang's requests: post_office.c */
};

/* How it hands what it has to another program. */
struct retiring {
    bool held;       /* workers were told to receive no datagrams */
    unsigned moving; /* those that have not said yet that none comes any more */
    uint64_t held_ns;
    bool asked;   /* RETIRED is to be said */
    uint32_t ref; /* with this */
    bool parting; /* it was, and may still be on its way */
    int to;       /* who takes over, from survival.c; -1: nobody has come */
    bool met;     /* it was heard of here */
    bool handing; /* workers were asked for what they have */
    struct handed *parts[WORKERS_MAX];
    unsigned part_count;
    bool given;     /* all of it was sent to who takes over */
    uint64_t until; /* nobody waits for that one any more */
};

/* What another program has handed to it. */
struct takeover {
    int from;      /* that program, until we read; -1: there is none */
    int lock;      /* which that one has still; -1: it is ours, or there is none */
    bool pending;  /* LIVE was not said: that one may go on */
    bool settling; /* it was, and workers have mail from before that yet */
    uint32_t ref;  /* of it */
    struct left left;
    struct left_conns conns;
    uint64_t held_ns; /* when it stopped reading, CLOCK_MONOTONIC */
    uint8_t *kept;    /* a frame KEPT */
    size_t kept_len;
    struct frames frames; /* of sessions */
};

/* The kernel's own path. */
struct kernel_path {
    enum offload_way wanted;
    struct offload *offload; /* NULL: sockets serve alone */
    char told[1024];         /* on which interfaces, or why not */
};

enum { CERTS_MAX = 32 };

struct control {
    pthread_mutex_t lock;
    struct pipe pipe;
    struct clock_time time;

    /* workers.c */
    struct worker *workers;
    unsigned worker_count;
    struct shard *shards[WORKERS_MAX]; /* theirs, for those who write to each other */
    struct limits limits;
    unsigned handshake_threads;
    struct socket_buffers buffers;
    enum backend backend;

    /* stats.c: what Erlang was told last */
    uint64_t told[COUNTER_COUNT];

    /* stalls.c */
    uint64_t next_look;
    struct look {
        uint64_t seen;  /* when it turned last, as of the last look */
        unsigned count; /* looks in a row that found the same */
    } looks[WORKERS_MAX], handshakes_look;

    /* post_office.c */
    int doorbell;
    bool mailed[WORKERS_MAX]; /* has mail, and was not woken for it yet */

    /* What policies are made of, besides listeners and pools: rules.c, watch.c */
    struct rules rules;
    struct watch watch;

    /* listeners.c */
    struct {
        uint32_t id;
        struct addr local;
        bool used;
        bool closing;    /* takes no more clients */
        bool opening;    /* LISTEN is not answered yet */
        unsigned asked;  /* workers that have not said yet whether they listen */
        int err;         /* what one of them said */
        unsigned failed; /* which */
        uint32_t ref;    /* of the LISTEN */
        unsigned idle;   /* workers that have nobody left there: counted by post_office.c */
    } listeners[LISTENERS_MAX];

    /* certificates.c */
    struct {
        uint32_t id; /* 0: free */
        struct tls_store *store;
    } certs[CERTS_MAX];

    /* survival.c */
    struct survival survival;

    struct kernel_path kernel_path; /* kernel_path.c */
    struct retiring retiring;       /* retiring.c */
    struct takeover takeover;       /* takeover.c */

    /* allocs.c */
    struct ports ports;
    uint64_t next_expiry; /* of a reservation */
};

#endif
