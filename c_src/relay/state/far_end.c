#include "far_end.h"

/* At a time; more than a session leaves behind, so that they do not pile up. */
enum { LOOKED_AT = 4 };

bool far_ends_init(struct far_ends *t, uint32_t max)
{
    list_init(&t->left);
    return slab_init(&t->slab, sizeof(struct far_end), max);
}

void far_ends_destroy(struct far_ends *t)
{
    slab_destroy(&t->slab);
}

static bool is_held(const struct far_end *e)
{
    return atomic_load_explicit(&e->holds, memory_order_acquire) != 0;
}

/* Some at a time, so that nobody waits, however many there are. */
static void sweep(struct far_ends *t)
{
    for (unsigned n = 0; n < LOOKED_AT && !list_empty(&t->left); n++) {
        struct far_end *e = container_of(t->left.next, struct far_end, in_left);
        list_del(&e->in_left);
        if (is_held(e))
            list_add_tail(&t->left, &e->in_left);
        else
            slab_free(&t->slab, e);
    }
}

struct far_end *far_end_open(struct far_ends *t)
{
    sweep(t);
    return slab_alloc(&t->slab);
}

void far_end_leave(struct far_ends *t, struct far_end *e)
{
    far_end_change(e);
    if (is_held(e))
        list_add_tail(&t->left, &e->in_left);
    else
        slab_free(&t->slab, e);
}
