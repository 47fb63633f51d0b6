/*
 * Prefixes either lie in each other or apart. Sorted by their first address, the longer one last,
 * the last prefix that begins at or before an address either holds it or lies within the one that
 * does: so each knows the prefix around it, and a search is a bisection and some steps outwards.
 */
#include "host.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "bytes.h"

typedef unsigned __int128 ip128; /* compared as an integer */

struct range {
    ip128 first, last;
    uint32_t outer; /* 1 + the number of the smallest range around it; 0: none */
    uint8_t kind;
};

struct family {
    struct range *ranges;
    uint32_t count;
};

struct host {
    _Atomic uint32_t holds;
    struct family v4, v6;
};

bool host_list_add(struct host_list *l, const struct host_prefix *p)
{
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct host_prefix *all = realloc(l->all, room * sizeof(*all));
        if (!all)
            return false;
        l->all = all;
        l->room = room;
    }
    l->all[l->count++] = *p;
    return true;
}

void host_list_free(struct host_list *l)
{
    free(l->all);
    *l = (struct host_list){0};
}

/* -------------------------------------------------------------------------------------- making */

static ip128 number(const uint8_t ip[16])
{
    return (ip128)load64(ip) << 64 | load64(ip + 8);
}

static struct range range_of(const struct host_prefix *p)
{
    ip128 behind = p->bits == 0 ? ~(ip128)0 : ((ip128)1 << (128 - p->bits)) - 1;
    ip128 first = number(p->ip) & ~behind;
    return (struct range){.first = first, .last = first | behind, .kind = p->kind};
}

/* By their beginning, then the wider first, then the kind that takes precedence. */
static int compare(const void *a, const void *b)
{
    const struct range *l = a, *r = b;
    if (l->first != r->first)
        return l->first < r->first ? -1 : 1;
    if (l->last != r->last)
        return l->last > r->last ? -1 : 1;
    return (int)l->kind - (int)r->kind;
}

/* Takes out what is there twice. */
static uint32_t unique(struct range *all, uint32_t n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || all[kept - 1].first != all[i].first || all[kept - 1].last != all[i].last)
            all[kept++] = all[i];
    return kept;
}

static void nest(struct range *all, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        uint32_t outer = i; /* the one before, or what is around that */
        while (outer && all[outer - 1].last < all[i].first)
            outer = all[outer - 1].outer;
        all[i].outer = outer;
    }
}

static bool family_make(struct family *f, const struct host_list *l, uint8_t family)
{
    f->ranges = malloc((l->count + 1) * sizeof(*f->ranges));
    if (!f->ranges)
        return false;
    for (size_t i = 0; i < l->count; i++)
        if (l->all[i].family == family)
            f->ranges[f->count++] = range_of(&l->all[i]);
    qsort(f->ranges, f->count, sizeof(*f->ranges), compare);
    f->count = unique(f->ranges, f->count);
    nest(f->ranges, f->count);
    return true;
}

struct host *host_make(const struct host_list *l)
{
    struct host *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    atomic_init(&h->holds, 1);
    if (!family_make(&h->v4, l, ADDR_V4) || !family_make(&h->v6, l, ADDR_V6)) {
        host_drop(h);
        return NULL;
    }
    return h;
}

struct host *host_hold(struct host *h)
{
    atomic_fetch_add_explicit(&h->holds, 1, memory_order_relaxed);
    return h;
}

void host_drop(struct host *h)
{
    if (!h || atomic_fetch_sub_explicit(&h->holds, 1, memory_order_acq_rel) != 1)
        return;
    free(h->v4.ranges);
    free(h->v6.ranges);
    free(h);
}

/* --------------------------------------------------------------------------------------- asking */

/* How many ranges begin at or before an address. */
static uint32_t begun(const struct family *f, ip128 ip)
{
    uint32_t low = 0, high = f->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (f->ranges[middle].first <= ip)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum host_kind host_kind(const struct host *h, const struct addr *ip)
{
    const struct family *f = ip->family == ADDR_V4 ? &h->v4 : &h->v6;
    ip128 n = number(ip->ip);
    for (uint32_t i = begun(f, n); i; i = f->ranges[i - 1].outer)
        if (n <= f->ranges[i - 1].last)
            return (enum host_kind)f->ranges[i - 1].kind;
    return HOST_OTHER;
}

static bool family_equal(const struct family *a, const struct family *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (compare(&a->ranges[i], &b->ranges[i]) != 0)
            return false;
    return true;
}

bool host_equal(const struct host *a, const struct host *b)
{
    return family_equal(&a->v4, &b->v4) && family_equal(&a->v6, &b->v6);
}

size_t host_count(const struct host *h)
{
    return (size_t)h->v4.count + h->v6.count;
}
