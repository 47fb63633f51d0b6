#include "way.h"

#include "slab.h"

enum { GENERATION_MASK = 0xffffff };

bool ways_init(struct ways *t, unsigned worker, uint32_t max)
{
    *t = (struct ways){.worker = worker, .max = max};
    t->places = memory_reserve(max * sizeof(*t->places));
    return t->places != NULL;
}

void ways_destroy(struct ways *t)
{
    memory_release(t->places, t->max * sizeof(*t->places));
    t->places = NULL;
}

bool way_open(struct ways *t, struct way_end *e)
{
    uint32_t slot = t->free ? t->free - 1 : t->used;
    if (slot == t->max)
        return false;
    if (t->free)
        t->free = (uint32_t)t->places[slot].number;
    else
        t->used++;
    t->generation = t->generation == GENERATION_MASK ? 1 : t->generation + 1;
    uint64_t number = (uint64_t)t->worker << 56 | (uint64_t)t->generation << 32 | slot;
    e->way = (struct way){number};
    e->holds = 0;
    t->places[slot] = (struct way_place){number, e};
    return true;
}

void way_close(struct ways *t, struct way_end *e)
{
    uint32_t slot = (uint32_t)e->way.number;
    t->places[slot] = (struct way_place){.number = t->free};
    t->free = slot + 1;
}
