/* In place of offload.c and attach.c where there is no libbpf to build with. */
#include "offload.h"

#include <errno.h>
#include <stdio.h>

/* Nobody has one, so nobody comes here. */
struct offload {
    struct offload_entry entry;
    struct offload_governor governor;
};

struct offload *offload_open(enum offload_way way, char why[OFFLOAD_WHY_MAX])
{
    (void)way;
    snprintf(why, OFFLOAD_WHY_MAX, "this Meerkat was built without libbpf");
    return NULL;
}

const char *offload_attach(struct offload *o, unsigned interface, char why[OFFLOAD_WHY_MAX])
{
    (void)o;
    (void)interface;
    (void)why;
    return NULL;
}

void offload_close(struct offload *o)
{
    (void)o;
}

enum offload_way offload_is_by(const struct offload *o)
{
    (void)o;
    return OFFLOAD_OFF;
}

uint8_t offload_hops(const struct offload *o, uint8_t family)
{
    (void)o;
    (void)family;
    return 0;
}

struct offload_entry *offload_entry(struct offload *o, uint32_t index)
{
    (void)index;
    return &o->entry;
}

struct offload_governor *offload_governor(struct offload *o, unsigned worker)
{
    (void)worker;
    return &o->governor;
}

int offload_lead(struct offload *o, const struct offload_key *key, uint32_t index, uint64_t number)
{
    (void)o;
    (void)key;
    (void)index;
    (void)number;
    return -ENOSYS;
}

int offload_unlead(struct offload *o, const struct offload_key *key)
{
    (void)o;
    (void)key;
    return -ENOSYS;
}

int offload_try(struct offload *o, uint8_t *frame, uint32_t *len, uint32_t cap, uint32_t *verdict)
{
    (void)o;
    (void)frame;
    (void)len;
    (void)cap;
    (void)verdict;
    return -ENOSYS;
}
