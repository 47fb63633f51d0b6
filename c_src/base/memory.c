#include "memory.h"

#include <sys/mman.h>

enum { STEP = 1 << 18 }; /* a call of the kernel each, and a multiple of every page size */

static void *map(size_t size, int protection)
{
    void *p = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *memory_reserve(size_t size)
{
    return map(size, PROT_READ | PROT_WRITE);
}

void memory_release(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

bool memory_plan(struct memory *m, size_t size)
{
    *m = (struct memory){.size = size, .base = map(size, PROT_NONE)};
    return m->base != NULL;
}

void memory_end(struct memory *m)
{
    memory_release(m->base, m->size);
    *m = (struct memory){0};
}

bool memory_extend(struct memory *m, size_t size)
{
    size_t usable = MIN((size + STEP - 1) / STEP * STEP, m->size);
    uint8_t *from = (uint8_t *)m->base + m->usable;
    if (size > m->size || mprotect(from, usable - m->usable, PROT_READ | PROT_WRITE) != 0)
        return false;
    m->usable = usable;
    return true;
}
