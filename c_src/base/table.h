/*
 * A hash table of intrusive nodes with a secret key, so that strangers who choose the keys cannot
 * choose the collisions. Knows hashes, not what is equal: the caller walks the candidates.
 * Single-threaded.
 *
 * Linear hashing: room for all buckets is reserved at the start, and those in use are the first of
 * it. An insertion splits at most two, so none ever waits for the whole to be moved, and the memory
 * touched is that of what is in the table and not of what could be. It never shrinks.
 */
#ifndef MEERKAT_TABLE_H
#define MEERKAT_TABLE_H

#include "crypto.h"
#include "memory.h"

struct table_node {
    struct table_node *next;
    struct table_node **link; /* what points at this node; NULL when in no table */
    uint32_t hash;
};

struct table {
    struct memory memory;
    struct table_node **buckets; /* of it */
    uint32_t used; /* buckets, of max: more than half of mask + 1, and never more than it */
    uint32_t mask;
    uint32_t max;
    uint32_t count;
    uint8_t key[16];
};

/* Room for `entries` at about one in two buckets, and for more with longer chains; false without
 * memory. */
bool table_init(struct table *t, uint32_t entries);
void table_destroy(struct table *t);

/* Moves what belongs there into one bucket more; nothing when all are in use. */
void table_split(struct table *t);

static inline uint32_t table_hash(const struct table *t, const void *data, size_t len)
{
    return (uint32_t)crypto_siphash(t->key, data, len);
}

/* Where a hash is. A bucket that is not there yet has its nodes still in the one it comes from. */
static inline struct table_node **table_bucket(const struct table *t, uint32_t hash)
{
    uint32_t i = hash & t->mask;
    return &t->buckets[i < t->used ? i : i & t->mask >> 1];
}

static inline void table_link(struct table_node **bucket, struct table_node *n)
{
    n->next = *bucket;
    n->link = bucket;
    if (n->next)
        n->next->link = &n->next;
    *bucket = n;
}

/* Not while a chain is being walked: it may move nodes. */
static inline void table_insert(struct table *t, struct table_node *n, uint32_t hash)
{
    n->hash = hash;
    table_link(table_bucket(t, hash), n);
    t->count++;
    for (int i = 0; i < 2 && t->used / 2 < t->count; i++)
        table_split(t);
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
    for (node = *table_bucket(t, h); node; node = node->next)                                      \
        if (node->hash == (h))

#endif
