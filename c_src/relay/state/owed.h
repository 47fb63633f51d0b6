/*
 * Answers that may not leave yet: what they tell a client has to be in the pipe to Erlang first, so
 * that it is known also when this program dies (docs/design/grants.md). They leave in their order,
 * each when Erlang has been told all that was posted before it. Belongs to one worker.
 */
#ifndef MEERKAT_OWED_H
#define MEERKAT_OWED_H

#include "transport.h"

enum {
    OWED_MAX = 512,        /* answers that wait at a time */
    OWED_PACKET_MAX = 256, /* bytes of one: a success of a few attributes, signed */
};

struct owed_answer {
    struct flow flow;
    uint32_t told_at; /* mailbox_posted of the way out, once Erlang's frame was posted */
    uint32_t len;
    uint8_t packet[OWED_PACKET_MAX];
};

struct owed {
    const struct ways *ways;
    struct owed_answer *answers; /* a ring */
    uint32_t first, count;
};

/* False without address space. */
bool owed_init(struct owed *o, const struct ways *ways);
void owed_destroy(struct owed *o);

static inline bool owed_has_room(const struct owed *o)
{
    return o->count < OWED_MAX;
}

/* The packet is for the caller to fill in, who has seen that there is room. */
struct owed_answer *owed_add(struct owed *o, const struct flow *f, uint32_t told_at);

/* The oldest, if Erlang has been told all that was posted up to `told`; else NULL. */
struct owed_answer *owed_next(const struct owed *o, uint32_t told);
/* It is sent. */
void owed_remove(struct owed *o);

#endif
