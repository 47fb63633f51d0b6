/*
 * The shortcuts of a worker's sessions: how a packet of one comes to the client of another session
 * of ours, of whatever worker, without the way over both relayed addresses
 * (docs/design/shortcuts.md). There is one for each session and peer that is relayed here; whether
 * it is known where it leads, and still holds, is the user's to see.
 *
 * Belongs to one worker, but for the far end. Knows no messages and sends nothing.
 */
#ifndef MEERKAT_SHORTCUT_H
#define MEERKAT_SHORTCUT_H

#include "far_end.h"
#include "timer.h"
#include "transport.h"

struct session;

/* What the worker of the session it leads to tells of that. */
struct shortcut_end {
    struct far_end *end;            /* held; NULL: nothing is known */
    uint64_t number;                /* its, when this was told */
    uint64_t until;                 /* none of it holds beyond, come what may */
    const _Atomic uint32_t *policy; /* the number of that worker's policy ... */
    uint32_t policy_number;         /* ... when this was told */
    uint16_t channel;               /* 0: a Data indication */
    struct rate rate, pace;         /* of that allocation alone, taken from the end's buckets */
    struct shared_bucket *user;     /* likewise of its user; NULL without limit */
    struct addr from;               /* our session's relayed address, as that client knows it */
};

struct shortcut {
    struct table_node by_pair;     /* of session and peer */
    struct table_node by_flow;     /* of the client, where one is known */
    struct session *session;       /* whose packets take it */
    struct shortcut *next, **link; /* of that session; what points at this one */
    struct addr peer;              /* as that session names it */
    uint64_t ask_at;               /* the other's worker, not before */
    struct shortcut_end to;
    struct flow flow;   /* to the other's client, by this worker's listener */
    struct timer timer; /* when it is swept; the owner's to set */
};

struct shortcuts {
    struct slab slab;
    struct table by_pair, by_flow;
};

bool shortcuts_init(struct shortcuts *t, uint32_t max);
void shortcuts_destroy(struct shortcuts *t);

/* NULL when there is none. */
struct shortcut *shortcut_find(const struct shortcuts *t, const struct session *s,
                               const struct addr *peer);
/* Any that leads to that client. */
struct shortcut *shortcut_by_flow(const struct shortcuts *t, const struct flow *f);

/* One that knows nothing yet, before `*head` of its session; NULL when the table is full. */
struct shortcut *shortcut_create(struct shortcuts *t, struct session *s, struct shortcut **head,
                                 const struct addr *peer);
/* It is told where it leads; the hold of the end is its own from here on. */
void shortcut_learn(struct shortcuts *t, struct shortcut *sc, const struct shortcut_end *to,
                    const struct flow *f);
/* It knows nothing any more. */
void shortcut_lose(struct shortcuts *t, struct shortcut *sc);
/* Its timer is clear. */
void shortcut_remove(struct shortcuts *t, struct shortcut *sc);

#endif
