/*
 * What workers and the control thread say to each other: the kinds of mail and their formats. Who
 * reads which is decided in worker/inbox.c and control/post_office.c.
 */
#ifndef MEERKAT_MAIL_H
#define MEERKAT_MAIL_H

#include <stddef.h>

#include "port.h"
#include "shortcut.h"
#include "transport.h"

enum {
    MAIL_SIZE = 1 << 20,      /* each way, each worker */
    MAIL_RESERVE = 64 * 1024, /* of the way out, kept free of requests */
};

/* The first byte of a mail. */
enum mail {
    MAIL_FRAME = 1, /* both ways: a frame of ctl.def */
    MAIL_LISTEN,    /* to the worker: struct mail_listen */
    MAIL_ALLOC,     /* to the worker: struct mail_alloc */
    MAIL_POLICY,    /* to the worker: struct policy *, and a hold of it */
    MAIL_FRONT,     /* to the worker: struct front *, and a hold of it; NULL: there is none */
    MAIL_PROXIED,   /* from worker to worker: struct mail_proxied and a client's datagram */
    MAIL_CONN,      /* from worker to worker: struct mail_conn */
    MAIL_MOVE,      /* to the session's worker: struct mail_move */
    MAIL_ROAM,      /* to the control thread, who passes it to roam.to: struct mail_roam */
    MAIL_CARRY,     /* from worker to worker: struct mail_carry and a client's datagram */
    MAIL_PORT_FREE, /* to the control thread: struct mail_port, whose socket is closed */
    MAIL_LISTENED,  /* to the control thread: struct mail_listened, after each MAIL_LISTEN */
    MAIL_IDLE,      /* to the control thread: the number of a listener that has nobody left here */
    MAIL_OVER,      /* to the worker: likewise, nor anywhere else */
    MAIL_FORGET,    /* to the worker: Erlang is gone, and all that it had in hand */
    MAIL_FORGOT,    /* to the control thread: done; whatever was posted before is for nobody */
    MAIL_HOLD,      /* to the worker: no datagram is to be received */
    MAIL_STILL,     /* to the control thread: none is, and all that were received are dealt with */
    MAIL_GO_ON,     /* to the worker: they are again */
    MAIL_HAND,      /* to the worker: another program is to get what it has */
    MAIL_LEFT,      /* to the worker: struct left_conn *, which is its own from then on */
    MAIL_HANDED,    /* to the control thread: struct handed *, which is its own from then on */
    MAIL_JOIN,      /* from worker to worker: struct mail_join and what was read */
    MAIL_SEEK,      /* from worker to worker: struct mail_seek */
    MAIL_SHORTCUT,  /* from worker to worker: struct mail_shortcut, and a hold of its end */
};

struct mail_listen {
    uint32_t id;
    int fd; /* -1: the listener is there, and takes realm and other */
    struct socket_past past;
    uint8_t transport;
    struct addr local, other;
    struct tls_store *certs; /* held for the worker; NULL without TLS */
    size_t realm_len;
    char realm[REALM_MAX];
};

struct mail_listened {
    uint32_t id;
    unsigned worker;
    int err; /* 0, or the errno for which this worker takes nothing there */
};

struct mail_alloc {
    uint32_t ref;
    uint64_t session;
    uint32_t listener;
    uint8_t transport;
    struct addr client, server;
    struct port relayed[2]; /* by family; pool NULL where there is none */
    uint16_t status[2];
    int err; /* for which one of them is CTL_FAILED; else 0 */
    uint64_t token;
    uint32_t lifetime_ms;
    uint64_t bytes_per_s;
    uint32_t packets_per_s;
    uint32_t bucket;
    uint8_t protocol;
    uint16_t connections_max;
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
    struct addr via, local; /* of the proxy that speaks for him, and where it does; or none */
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
    uint64_t session;
    struct mail_flow flow;
    uint32_t len; /* bytes that follow */
};

/* A connection whose client a proxy has told, for the worker of that. */
struct mail_conn {
    uint32_t listener;
    int fd; /* what is behind the header was not read */
    struct addr client, server;
};

/* A datagram that a proxy passed on, for the worker of its client. */
struct mail_proxied {
    uint32_t listener;
    struct addr client, server; /* as the proxy tells */
    struct addr via, local;     /* it, and where it reached us */
    uint32_t len;               /* bytes that follow */
};

/* A client's connection on its way to the worker of the session it is joined to. */
struct mail_join {
    uint64_t session;
    uint32_t connection;
    struct mail_flow flow;
    int fd;
    struct tls_session *tls; /* the letter's */
    /* Bytes that follow: part of a record, what is for the peer, the answer to the client. */
    uint32_t raw, in, answer;
};

/* Would a packet of this session be taken by that one, now, and where would it go? */
struct mail_seek {
    uint64_t session, other;
    unsigned from;       /* the worker that asks */
    struct addr relayed; /* of this session, as bound: where its packets come from */
    struct addr bound;   /* of that one, where they go ... */
    struct addr peer;    /* ... as this one names it */
};

/* It would. */
struct mail_shortcut {
    uint64_t session;
    struct addr peer;
    struct shortcut_end to; /* the hold of the end is the letter's */
    uint32_t listener;
    struct addr client, server;
};

_Static_assert(offsetof(struct mail_roam, to) == 0, "who passes it on reads this much");

#endif
