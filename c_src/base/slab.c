#include "slab.h"

#include <string.h>

bool slab_init(struct slab *s, size_t object_size, uint32_t max)
{
    *s = (struct slab){.stride = (object_size + 7) & ~(size_t)7, .max = max};
    if (!memory_plan(&s->memory, s->stride * MAX(max, 1u)))
        return false;
    s->base = s->memory.base;
    return true;
}

void slab_destroy(struct slab *s)
{
    memory_end(&s->memory);
    *s = (struct slab){0};
}

void *slab_alloc(struct slab *s)
{
    void *object;
    if (s->free) {
        object = slab_at(s, s->free - 1);
        memcpy(&s->free, object, sizeof(s->free));
        memset(object, 0, s->stride);
    } else if (s->touched < s->max && memory_use(&s->memory, (s->touched + 1) * s->stride)) {
        object = slab_at(s, s->touched++); /* fresh from the kernel: zero already */
    } else {
        return NULL;
    }
    s->live++;
    return object;
}

void slab_free(struct slab *s, void *object)
{
    memcpy(object, &s->free, sizeof(s->free));
    s->free = slab_index(s, object) + 1;
    s->live--;
}
