#include "table.h"

#include "slab.h"

bool table_init(struct table *t, uint32_t entries)
{
    uint32_t buckets = 64;
    while (buckets < entries && buckets < 1u << 30)
        buckets *= 2;
    *t = (struct table){.mask = buckets - 1};
    t->buckets = memory_reserve(buckets * sizeof(*t->buckets));
    crypto_random(t->key, sizeof(t->key));
    return t->buckets != NULL;
}

void table_destroy(struct table *t)
{
    memory_release(t->buckets, ((size_t)t->mask + 1) * sizeof(*t->buckets));
    *t = (struct table){0};
}
