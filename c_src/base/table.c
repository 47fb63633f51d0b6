#include "table.h"

enum { BUCKETS_MIN = 64, BUCKETS_MAX = 1 << 30 };

bool table_init(struct table *t, uint32_t entries)
{
    uint32_t max = BUCKETS_MIN;
    while (max / 2 < entries && max < BUCKETS_MAX)
        max *= 2;
    *t = (struct table){.used = BUCKETS_MIN, .mask = BUCKETS_MIN - 1, .max = max};
    crypto_random(t->key, sizeof(t->key));
    if (!memory_plan(&t->memory, max * sizeof(*t->buckets)))
        return false;
    t->buckets = t->memory.base;
    if (memory_use(&t->memory, BUCKETS_MIN * sizeof(*t->buckets)))
        return true;
    table_destroy(t);
    return false;
}

void table_destroy(struct table *t)
{
    memory_end(&t->memory);
    *t = (struct table){0};
}

void table_split(struct table *t)
{
    if (t->used == t->max || !memory_use(&t->memory, (t->used + 1) * sizeof(*t->buckets)))
        return; /* chains grow longer instead */
    uint32_t new = t->used++;
    if (new > t->mask)
        t->mask = t->mask * 2 + 1;
    struct table_node *next, *n = t->buckets[new & t->mask >> 1];
    for (; n; n = next) {
        next = n->next;
        if ((n->hash & t->mask) != new)
            continue;
        *n->link = next;
        if (next)
            next->link = n->link;
        table_link(&t->buckets[new], n);
    }
}
