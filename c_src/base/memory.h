/*
 * Address space that is asked for at the start and takes memory as it is used. Addresses never move
 * and nothing is given back before the end.
 */
#ifndef MEERKAT_MEMORY_H
#define MEERKAT_MEMORY_H

#include "base.h"

/* Zero bytes that may all be written, page by page; NULL when the kernel has none. */
void *memory_reserve(size_t size);
void memory_release(void *p, size_t size);

/* The same for what grows from its beginning and may never be needed whole: only what is in use
 * counts where the system counts what it has promised (vm.overcommit_memory 2). */
struct memory {
    void *base;
    size_t size;
    size_t usable; /* from base on */
};

bool memory_plan(struct memory *m, size_t size);
void memory_end(struct memory *m);
bool memory_extend(struct memory *m, size_t size);

/* May the first `size` bytes be written? False when the system has no memory for them. */
static inline bool memory_use(struct memory *m, size_t size)
{
    return LIKELY(size <= m->usable) || memory_extend(m, size);
}

#endif
