/*
 * Answers that may not leave yet: what they tell a client has to be in the pipe to Erlang first, so
 * that it is known also when this program dies (docs/design/grants.md). Each waits until Erlang has
 * been told all that was posted before it. Belongs to one worker.
 */
#ifndef MEERKAT_OWED_H
#define MEERKAT_OWED_H

#include "transport.h"

struct shard;

enum {
    OWED_MAX = 512,        /* answers that wait at a time */
    OWED_PACKET_MAX = 256, /* bytes of one: a success of a few attributes, signed */
};

struct owed_answer {
    struct flow flow;
    uint32_t told_at; /* mailbox_posted of the way out when it was owed */
    uint32_t len;
    uint8_t packet[OWED_PACKET_MAX];
};

struct owed {
    struct owed_answer *answers; /* a ring */
    uint32_t first, count;
};

/* False without address space. */
bool owed_init(struct owed *o);
void owed_destroy(struct owed *o);

static inline bool owed_has_room(const struct owed *o)
{
    return o->count < OWED_MAX;
}

/* To be filled by the caller, who has seen that there is room and has posted what Erlang has to
 * know. */
struct owed_answer *owed_add(struct shard *sh, const struct flow *f);

/* Sends those of which Erlang has been told: all that was posted up to `told`. Were there any? */
bool owed_send(struct shard *sh, uint32_t told);

#endif
