#include "association.h"

#include <stdlib.h>

#include "crypto.h"

bool associations_init(struct associations *t, uint32_t max, const void *secret, size_t secret_len)
{
    static const char label[] = "dtls cookie";
    const struct crypto_part what = {label, sizeof(label)};
    *t = (struct associations){.net = memory_reserve(DTLS_STEP_MAX)};
    crypto_hmac_sha256(secret, secret_len, &what, 1, t->cookie_key);
    return t->net && slab_init(&t->slab, sizeof(struct association), max) &&
           table_init(&t->by_tuple, max);
}

void associations_destroy(struct associations *t)
{
    for (uint32_t i = 0; i < t->slab.touched; i++) {
        struct association *a = slab_at(&t->slab, i);
        if (a->by_tuple.link)
            association_free(t, a);
    }
    memory_release(t->net, DTLS_STEP_MAX);
    slab_destroy(&t->slab);
    table_destroy(&t->by_tuple);
    crypto_zero(t->cookie_key, sizeof(t->cookie_key));
}

struct association *association_create(struct associations *t, const struct flow *f)
{
    struct association *a = slab_alloc(&t->slab);
    if (!a)
        return NULL;
    a->flow = *f;
    step_queue_init(&a->waiting);
    table_insert(&t->by_tuple, &a->by_tuple, flow_hash(&t->by_tuple, f));
    return a;
}

void association_free(struct associations *t, struct association *a)
{
    table_remove(&t->by_tuple, &a->by_tuple);
    if (a->step)
        step_clear(a->step);
    free(a->step);
    step_queue_clear(&a->waiting);
    tls_free(a->tls);
    slab_free(&t->slab, a);
}

struct association *association_find(const struct associations *t, const struct flow *f,
                                     struct association **shaking)
{
    struct association *open = NULL;
    struct table_node *n;
    uint32_t hash = flow_hash(&t->by_tuple, f);
    *shaking = NULL;
    table_for_each(n, &t->by_tuple, hash)
    {
        struct association *a = container_of(n, struct association, by_tuple);
        if (!flow_equal(&a->flow, f))
            continue;
        if (a->tls)
            open = a;
        else
            *shaking = a;
    }
    return open;
}
