#include "slab.h"

#include <string.h>
#include <sys/mman.h>

void *memory_reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void memory_release(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

bool slab_init(struct slab *s, size_t object_size, uint32_t max)
{
    *s = (struct slab){.stride = (object_size + 15) & ~(size_t)15, .max = max};
    s->base = memory_reserve(s->stride * MAX(max, 1u));
    return s->base != NULL;
}

void slab_destroy(struct slab *s)
{
    memory_release(s->base, s->stride * MAX(s->max, 1u));
    *s = (struct slab){0};
}

void *slab_alloc(struct slab *s)
{
    void *object;
    if (s->free) {
        object = slab_at(s, s->free - 1);
        memcpy(&s->free, object, sizeof(s->free));
        memset(object, 0, s->stride);
    } else if (s->touched < s->max) {
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
