/*
 * A fixed pool of equal objects, its room reserved at start: addresses never move, nothing is
 * returned to the system before the end, and pages nobody used cost nothing. Single-threaded.
 */
#ifndef MEERKAT_SLAB_H
#define MEERKAT_SLAB_H

#include "base.h"

struct slab {
    uint8_t *base;
    size_t stride;
    uint32_t max;
    uint32_t live;    /* objects handed out */
    uint32_t touched; /* objects ever handed out: the rest was never written */
    uint32_t free;    /* head of the free list: index + 1, 0 when empty */
};

/* Address space for `size` zero bytes that takes memory page by page as it is touched; NULL when
 * the kernel has none. Released by memory_release. */
void *memory_reserve(size_t size);
void memory_release(void *p, size_t size);

/* False when there is no address space. */
bool slab_init(struct slab *s, size_t object_size, uint32_t max);
void slab_destroy(struct slab *s);

/* A zeroed object, or NULL when all are out. */
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
