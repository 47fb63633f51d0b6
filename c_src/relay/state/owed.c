#include "owed.h"

#include "memory.h"

bool owed_init(struct owed *o, const struct ways *ways)
{
    *o = (struct owed){.ways = ways, .answers = memory_reserve(OWED_MAX * sizeof(*o->answers))};
    return o->answers != NULL;
}

void owed_destroy(struct owed *o)
{
    memory_release(o->answers, OWED_MAX * sizeof(*o->answers));
    *o = (struct owed){0};
}

struct owed_answer *owed_add(struct owed *o, const struct flow *f, uint32_t told_at)
{
    struct owed_answer *a = &o->answers[(o->first + o->count++) % OWED_MAX];
    flow_keep(o->ways, &a->flow, f);
    a->told_at = told_at;
    a->len = 0;
    return a;
}

/* Both count for ever, modulo 2^32. */
struct owed_answer *owed_next(const struct owed *o, uint32_t told)
{
    struct owed_answer *a = &o->answers[o->first];
    return o->count && (int32_t)(told - a->told_at) >= 0 ? a : NULL;
}

void owed_remove(struct owed *o)
{
    flow_drop(o->ways, &o->answers[o->first].flow);
    o->first = (o->first + 1) % OWED_MAX;
    o->count--;
}
