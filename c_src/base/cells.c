#include "cells.h"

#include <string.h>

#include "slab.h"

_Static_assert(sizeof(struct cell) == CELL_SIZE, "a cell is as large as it says");

bool cells_init(struct cells *c, uint32_t max)
{
    *c = (struct cells){.base = memory_reserve((size_t)max * CELL_SIZE), .max = max};
    return c->base != NULL;
}

void cells_destroy(struct cells *c)
{
    memory_release(c->base, (size_t)c->max * CELL_SIZE);
    *c = (struct cells){0};
}

struct cell *cell_take(struct cells *c)
{
    struct cell *cell = c->free;
    if (cell)
        c->free = cell->next;
    else if (c->touched < c->max)
        cell = (struct cell *)(c->base + (size_t)c->touched++ * CELL_SIZE);
    else
        return NULL;
    c->live++;
    cell->next = NULL;
    return cell;
}

void cell_give(struct cells *c, struct cell *cell)
{
    cell->next = c->free;
    c->free = cell;
    c->live--;
}

static bool has_room(const struct cells *c, size_t len)
{
    return (len + CELL_ROOM - 1) / CELL_ROOM <= c->max - c->live;
}

/* Into cells of its own and, as far as there is room, into the last. */
bool chain_add(struct cells *c, struct chain *chain, const void *data, size_t len)
{
    const uint8_t *p = data;
    if (!has_room(c, len))
        return false;
    chain->len += (uint32_t)len;
    while (len > 0) {
        if (!chain->last || chain->last->len == CELL_ROOM) {
            struct cell *cell = cell_take(c);
            cell->len = 0;
            if (chain->last)
                chain->last->next = cell;
            else
                chain->first = cell;
            chain->last = cell;
        }
        size_t n = MIN(len, (size_t)(CELL_ROOM - chain->last->len));
        memcpy(chain->last->data + chain->last->len, p, n);
        chain->last->len += (uint16_t)n;
        p += n;
        len -= n;
    }
    return true;
}

void chain_copy(const struct chain *chain, uint8_t *out)
{
    size_t at = chain->at;
    for (const struct cell *cell = chain->first; cell; cell = cell->next) {
        memcpy(out, cell->data + at, cell->len - at);
        out += cell->len - at;
        at = 0;
    }
}

unsigned chain_pieces(const struct chain *chain, struct iovec *out, unsigned max)
{
    unsigned n = 0;
    size_t at = chain->at;
    for (struct cell *cell = chain->first; cell && n < max; cell = cell->next) {
        out[n++] = (struct iovec){cell->data + at, cell->len - at};
        at = 0;
    }
    return n;
}

void chain_drop(struct cells *c, struct chain *chain, size_t len)
{
    chain->len -= (uint32_t)len;
    while (chain->first && (len > 0 || chain->at == chain->first->len)) {
        struct cell *first = chain->first;
        size_t n = MIN(len, (size_t)(first->len - chain->at));
        len -= n;
        chain->at += (uint16_t)n;
        if (chain->at < first->len)
            break;
        chain->first = first->next;
        chain->at = 0;
        cell_give(c, first);
    }
    if (!chain->first)
        chain->last = NULL;
}
