#include "table.h"

#include "slab.h"

enum { BUCKETS_MIN = 64, BUCKETS_MAX = 1 << 30 };

bool table_init(struct table *t, uint32_t entries)
{
    uint32_t max = BUCKETS_MIN;
    while (max / 2 < entries && max < BUCKETS_MAX)
        max *= 2;
    *t = (struct table){.used = BUCKETS_MIN, .mask = BUCKETS_MIN - 1, .max = max};
    t->buckets = memory_reserve(max * sizeof(*t->buckets));
    crypto_random(t->key, sizeof(t->key));
    return t->buckets != NULL;
}

void table_destroy(struct table *t)
{
    memory_release(t->buckets, t->max * sizeof(*t->buckets));
    *t = (struct table){0};
}

void table_split(struct table *t)
{
    if (t->used == t->max)
        return;
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
