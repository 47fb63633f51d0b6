#include "owed.h"

#include <string.h>

#include "count.h"
#include "memory.h"

bool owed_init(struct owed *o)
{
    *o = (struct owed){.answers = memory_reserve(OWED_MAX * sizeof(*o->answers))};
    return o->answers != NULL;
}

void owed_destroy(struct owed *o)
{
    memory_release(o->answers, OWED_MAX * sizeof(*o->answers));
    *o = (struct owed){0};
}

static struct owed_answer *at(const struct owed *o, uint32_t n)
{
    return &o->answers[(o->first + n) % OWED_MAX];
}

struct owed_answer *owed_add(struct shard *sh, const struct flow *f)
{
    struct owed_answer *a = at(&sh->owed, sh->owed.count++);
    flow_keep(&sh->ways, &a->flow, f);
    a->told_at = mailbox_posted(&sh->out);
    a->len = 0;
    return a;
}

bool owed_send(struct shard *sh, uint32_t told)
{
    bool any = false;
    while (sh->owed.count && (int32_t)(told - at(&sh->owed, 0)->told_at) >= 0) {
        struct owed_answer *a = at(&sh->owed, 0);
        uint8_t *copy = io_scratch(sh->io, a->len);
        memcpy(copy, a->packet, a->len);
        a->flow.transport->send(sh, &a->flow, copy, a->len);
        count(sh, CTR_granted);
        flow_drop(&sh->ways, &a->flow);
        sh->owed.first = (sh->owed.first + 1) % OWED_MAX;
        sh->owed.count--;
        any = true;
    }
    return any;
}
