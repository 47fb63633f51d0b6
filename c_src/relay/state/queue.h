/*
 * What waits for a client that reads a stream: whole frames, each with the time it came. Media
 * that waits too long is worth nothing and holds up what is fresh: it is dropped, the oldest first,
 * and whole. Answers are never dropped, nor is the rest of a frame that has begun.
 */
#ifndef MEERKAT_QUEUE_H
#define MEERKAT_QUEUE_H

#include "cells.h"

enum queue_kind { QUEUE_ANSWER, QUEUE_MEDIA };

/* Zero is empty. */
struct queue {
    struct cell *first, *last;
    uint32_t bytes;   /* of all frames */
    uint32_t answers; /* bytes of them that are no media */
};

/* Frames that were dropped: so many, of so many bytes without padding, with so many of peers. */
struct queue_dropped {
    unsigned n;
    uint64_t bytes, payload;
};

struct queue_drops {
    struct queue_dropped late, full;
};

/* A frame that consists of two parts and its padding. False, and nothing kept, without cells. */
bool queue_put(struct cells *c, struct queue *q, enum queue_kind kind, uint64_t now,
               const void *head, size_t head_len, const void *data, size_t len);

/* Drops media that came before `oldest`, and more of it while over max_bytes wait. */
struct queue_drops queue_trim(struct cells *c, struct queue *q, uint64_t oldest,
                              uint32_t max_bytes);

/* Moves bytes out of the queue, from its beginning on, as many whole cells as fit; cap is at least
 * CELL_ROOM. How many bytes; 0 when it is empty. */
size_t queue_take(struct cells *c, struct queue *q, uint8_t *out, size_t cap);

/* When the oldest frame came; now if there is none. */
static inline uint64_t queue_since(const struct queue *q, uint64_t now)
{
    return q->first ? q->first->since : now;
}

/* The media that waits and of which nothing has gone yet. */
struct queue_dropped queue_media(const struct queue *q);

/* A frame that waits, or the rest of one that has begun to go: that comes first, and `whole` is
 * false. */
struct queue_frame {
    bool whole;
    enum queue_kind kind;
    uint64_t since;
    size_t len;
};
/* Copies the one at *at, which is behind it then; NULL at the end. False where that has no room. */
bool queue_copy(const struct cell **at, struct queue_frame *f, uint8_t *out, size_t cap);

void queue_clear(struct cells *c, struct queue *q);

#endif
