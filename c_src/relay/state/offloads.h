/*
 * What a worker's sessions have in the kernel (offload.h): an entry for each direction of a channel
 * that is hot. Which one is, and what it says, is decided above (offloading.h).
 *
 * The kernel reads an entry at any time. So one that does not hold any more is voided by a single
 * store, at once, by whoever changes what it was made of (session_changed); it is taken apart
 * later. Belongs to one worker, like the part of the entries that it fills.
 */
#ifndef MEERKAT_OFFLOADS_H
#define MEERKAT_OFFLOADS_H

#include "addr.h"
#include "memory.h"
#include "offload.h"

struct session;

/* By which way it goes: the value of enum direction. */
struct offloaded {
    struct session *session; /* NULL: free */
    struct offloads *owner;
    struct offload_entry *entry;
    struct offloaded *next; /* of that session; where free, of those that are */
    struct offload_key key;
    uint64_t packets, bytes; /* so many were added to the session's already */
    uint64_t free_at;        /* when it was left */
    uint64_t quiet_since;    /* packets came last, or it was made */
    uint64_t found_at;       /* where it leads was asked last */
    uint16_t channel;
    uint8_t direction;
    bool used; /* a packet went by it */
};

struct offloads {
    struct offload *kernel; /* NULL: there is none, and nothing is ever put here */
    struct offload_governor *governor;
    struct memory memory;
    struct offloaded *all;
    uint32_t first, max, touched, live;
    uint64_t now;                       /* the worker's: at the beginning of its turn */
    struct offloaded *free, **free_end; /* the one that was left first is first */
    uint64_t number;                    /* the latest given */
    struct {
        uint64_t packets, bytes;
    } sum[2]; /* by direction, since they were counted */
};

/* Without a kernel to give it entries it stays empty. False without address space. */
bool offloads_init(struct offloads *t, struct offload *kernel, unsigned worker, unsigned workers);
void offloads_destroy(struct offloads *t);

/* A new one for the session, at the head of its list; NULL when there is no room, or the kernel has
 * none. What the entry says is taken over but for its number. */
struct offloaded *offloads_put(struct offloads *t, struct session *s, struct offloaded **head,
                               const struct offload_key *key, const struct offload_entry *says);

/* What went by it since it was looked at last, packets and bytes. */
void offloaded_collect(struct offloaded *o, uint64_t *packets, uint64_t *bytes);

/* None of them lets a packet through from here on. */
void offloads_void(struct offloaded *head);

static inline bool offloaded_is_void(const struct offloaded *o)
{
    return OFFLOAD_GET(o->entry->number) == 0;
}

/* Entries of any other epoch let nothing through from here on. */
static inline void offloads_set_epoch(struct offloads *t, uint64_t epoch)
{
    if (t->kernel)
        OFFLOAD_SET(t->governor->epoch, epoch);
}

/* Takes it apart. The caller has taken it out of its list. */
void offloads_remove(struct offloads *t, struct offloaded *o);

#endif
