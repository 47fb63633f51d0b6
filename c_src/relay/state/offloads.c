#include "offloads.h"

#include <string.h>

#include "clock.h"

/* A packet that found an entry a moment ago is done with it long before another flow has that. */
#define REST_NS (NS_PER_S * CLOCK_SPEED)

bool offloads_init(struct offloads *t, struct offload *kernel, unsigned worker, unsigned workers)
{
    *t = (struct offloads){.kernel = kernel};
    if (!kernel)
        return true;
    t->max = OFFLOAD_ENTRIES / workers;
    t->first = t->max * worker;
    t->free_end = &t->free;
    t->number = (uint64_t)worker << 56;
    t->governor = offload_governor(kernel, worker);
    if (!memory_plan(&t->memory, t->max * sizeof(*t->all)))
        return false;
    t->all = t->memory.base;
    return true;
}

void offloads_destroy(struct offloads *t)
{
    if (t->all)
        memory_end(&t->memory);
    *t = (struct offloads){0};
}

/* One that was never used, for as long as there are such; then the one that was left first. */
static struct offloaded *take(struct offloads *t)
{
    struct offloaded *o = t->free;
    if (t->touched < t->max && memory_use(&t->memory, (t->touched + 1) * sizeof(*o))) {
        o = &t->all[t->touched];
        o->entry = offload_entry(t->kernel, t->first + t->touched++);
    } else {
        if (!o || o->free_at + REST_NS > t->now)
            return NULL;
        t->free = o->next;
        if (!t->free)
            t->free_end = &t->free;
    }
    t->live++;
    return o;
}

static void leave(struct offloads *t, struct offloaded *o)
{
    o->session = NULL;
    o->free_at = t->now;
    o->next = NULL;
    *t->free_end = o;
    t->free_end = &o->next;
    t->live--;
}

/* The number last: until then the program finds nothing there. */
static void tell(struct offload_entry *e, const struct offload_entry *says, uint64_t number)
{
    OFFLOAD_SET(e->number, 0);
    *e = *says;
    OFFLOAD_SET(e->number, number);
}

struct offloaded *offloads_put(struct offloads *t, struct session *s, struct offloaded **head,
                               const struct offload_key *key, const struct offload_entry *says)
{
    struct offloaded *o = t->kernel ? take(t) : NULL;
    if (!o)
        return NULL;
    struct offload_entry fresh = *says;
    fresh.number = fresh.packets = fresh.bytes = 0;
    *o = (struct offloaded){.session = s,
                            .owner = t,
                            .entry = o->entry,
                            .key = *key,
                            .quiet_since = t->now,
                            .found_at = t->now};
    tell(o->entry, &fresh, ++t->number);
    if (offload_lead(t->kernel, key, (uint32_t)(t->first + (o - t->all)), t->number) != 0) {
        OFFLOAD_SET(o->entry->number, 0);
        leave(t, o);
        return NULL;
    }
    o->next = *head;
    *head = o;
    return o;
}

void offloaded_collect(struct offloaded *o, uint64_t *packets, uint64_t *bytes)
{
    uint64_t p = OFFLOAD_GET(o->entry->packets), b = OFFLOAD_GET(o->entry->bytes);
    *packets = p - o->packets;
    *bytes = b - o->bytes;
    o->packets = p;
    o->bytes = b;
    if (*packets) {
        o->used = true;
        o->quiet_since = o->owner->now;
    }
    o->owner->sum[o->direction].packets += *packets;
    o->owner->sum[o->direction].bytes += *bytes;
}

void offloads_void(struct offloaded *head)
{
    for (struct offloaded *o = head; o; o = o->next)
        OFFLOAD_SET(o->entry->number, 0);
}

void offloads_remove(struct offloads *t, struct offloaded *o)
{
    OFFLOAD_SET(o->entry->number, 0);
    offload_unlead(t->kernel, &o->key);
    leave(t, o);
}
