/*
 * A hash table of intrusive nodes with a fixed number of buckets and a secret key, so that
 * strangers who choose the keys cannot choose the collisions. Knows hashes, not what is equal:
 * the caller walks the candidates. Single-threaded.
 */
#ifndef MEERKAT_TABLE_H
#define MEERKAT_TABLE_H

#include "crypto.h"

struct table_node {
    struct table_node *next;
    struct table_node **link; /* what points at this node; NULL when in no table */
    uint32_t hash;
};

struct table {
    struct table_node **buckets;
    uint32_t mask;
    uint32_t count;
    uint8_t key[16];
};

/* Room for `entries` at about one a bucket; false without address space. */
bool table_init(struct table *t, uint32_t entries);
void table_destroy(struct table *t);

static inline uint32_t table_hash(const struct table *t, const void *data, size_t len)
{
    return (uint32_t)crypto_siphash(t->key, data, len);
}

static inline void table_insert(struct table *t, struct table_node *n, uint32_t hash)
{
    struct table_node **bucket = &t->buckets[hash & t->mask];
    n->hash = hash;
    n->next = *bucket;
    n->link = bucket;
    if (n->next)
        n->next->link = &n->next;
    *bucket = n;
    t->count++;
}

/* Harmless on a node that is in no table. */
static inline void table_remove(struct table *t, struct table_node *n)
{
    if (!n->link)
        return;
    *n->link = n->next;
    if (n->next)
        n->next->link = n->link;
    n->next = NULL;
    n->link = NULL;
    t->count--;
}

/* Every node whose hash is h; the body decides which one is meant. */
#define table_for_each(node, t, h)                                                                 \
    for (node = (t)->buckets[(h) & (t)->mask]; node; node = node->next)                            \
        if (node->hash == (h))

#endif
