/*
 * A fixed pool of equal objects, its room reserved at start: addresses never move, nothing is
 * returned to the system before the end, and pages nobody used cost nothing. Single-threaded.
 */
#ifndef MEERKAT_SLAB_H
#define MEERKAT_SLAB_H

#include "memory.h"

struct slab {
    struct memory memory;
    uint8_t *base; /* of it */
    size_t stride;
    uint32_t max;
    uint32_t live;    /* objects handed out */
    uint32_t touched; /* objects ever handed out: the rest was never written */
    uint32_t free;    /* head of the free list: index + 1, 0 when empty */
};

/* False when there is no address space. */
bool slab_init(struct slab *s, size_t object_size, uint32_t max);
void slab_destroy(struct slab *s);

/* A zeroed object, or NULL when all are out, or the system has no memory for one more. */
void *slab_alloc(struct slab *s);
void slab_free(struct slab *s, void *object);

static inline uint32_t slab_index(const struct slab *s, const void *object)
{
    return (uint32_t)((size_t)((const uint8_t *)object - s->base) / s->stride);
}

static inline void *slab_at(const struct slab *s, uint32_t index)
{
    return s->base + (size_t)index * s->stride;
}

#endif
