/*
 * A frame is a cell, or several in a row; the first of them is marked. One that has begun to go is
 * known by its first cell being gone.
 */
#include "queue.h"

#include <string.h>

#include "frame.h"

enum { KIND_MEDIA = 1, KIND_FIRST = 2 };

static void append(struct queue *q, struct cell *cell)
{
    if (q->last)
        q->last->next = cell;
    else
        q->first = cell;
    q->last = cell;
    q->bytes += cell->len;
    q->answers += cell->kind & KIND_MEDIA ? 0 : cell->len;
}

/* What there is less of in the queue. */
static void forget(struct queue *q, const struct cell *cell)
{
    q->bytes -= cell->len;
    q->answers -= cell->kind & KIND_MEDIA ? 0 : cell->len;
}

/* Fills cells one after the other. */
struct writer {
    struct cells *cells;
    struct queue *queue;
    struct cell *cell;
    uint64_t now;
    uint8_t kind;
};

static void next_cell(struct writer *w)
{
    if (w->cell)
        append(w->queue, w->cell);
    w->cell = cell_take(w->cells);
    w->cell->since = w->now;
    w->cell->kind = w->kind;
    w->cell->len = 0;
    w->kind &= KIND_MEDIA;
}

static void write_part(struct writer *w, const uint8_t *data, size_t len)
{
    while (len > 0) {
        if (!w->cell || w->cell->len == CELL_ROOM)
            next_cell(w);
        size_t n = MIN(len, (size_t)(CELL_ROOM - w->cell->len));
        memcpy(w->cell->data + w->cell->len, data, n);
        w->cell->len += (uint16_t)n;
        data += n;
        len -= n;
    }
}

bool queue_put(struct cells *c, struct queue *q, enum queue_kind kind, uint64_t now,
               const void *head, size_t head_len, const void *data, size_t len)
{
    static const uint8_t zeros[3];
    size_t padding = frame_padding(head_len + len), all = head_len + len + padding;
    if ((all + CELL_ROOM - 1) / CELL_ROOM > c->max - c->live)
        return false;
    struct writer w = {.cells = c,
                       .queue = q,
                       .now = now,
                       .kind = KIND_FIRST | (kind == QUEUE_MEDIA ? KIND_MEDIA : 0)};
    write_part(&w, head, head_len);
    write_part(&w, data, len);
    write_part(&w, zeros, padding);
    if (w.cell)
        append(q, w.cell);
    return true;
}

static bool starts_media(const struct cell *cell)
{
    return (cell->kind & (KIND_FIRST | KIND_MEDIA)) == (KIND_FIRST | KIND_MEDIA);
}

static void add_dropped(struct queue_dropped *d, const struct cell *first)
{
    struct frame_media media = {0};
    frame_carries(first->data, first->len, &media);
    d->n++;
    d->bytes += media.len;
    d->payload += media.payload;
}

/* Takes the frame out that starts at *at. */
static void drop_frame(struct cells *c, struct queue *q, struct cell **at)
{
    do {
        struct cell *cell = *at;
        *at = cell->next;
        forget(q, cell);
        cell_give(c, cell);
    } while (*at && !((*at)->kind & KIND_FIRST));
}

struct queue_drops queue_trim(struct cells *c, struct queue *q, uint64_t oldest, uint32_t max_bytes)
{
    struct queue_drops drops = {0};
    struct cell **at = &q->first, *last = NULL;
    while (*at && ((*at)->since < oldest || q->bytes > max_bytes)) {
        bool late = (*at)->since < oldest;
        if (starts_media(*at)) {
            add_dropped(late ? &drops.late : &drops.full, *at);
            drop_frame(c, q, at);
        } else {
            last = *at;
            at = &last->next;
        }
    }
    if (!*at)
        q->last = last;
    return drops;
}

struct queue_dropped queue_media(const struct queue *q)
{
    struct queue_dropped media = {0};
    for (const struct cell *cell = q->first; cell; cell = cell->next)
        if (starts_media(cell))
            add_dropped(&media, cell);
    return media;
}

size_t queue_take(struct cells *c, struct queue *q, uint8_t *out, size_t cap)
{
    size_t n = 0;
    while (q->first && q->first->len <= cap - n) {
        struct cell *cell = q->first;
        memcpy(out + n, cell->data, cell->len);
        n += cell->len;
        q->first = cell->next;
        forget(q, cell);
        cell_give(c, cell);
    }
    if (!q->first)
        q->last = NULL;
    return n;
}

bool queue_copy(const struct cell **at, struct queue_frame *f, uint8_t *out, size_t cap)
{
    const struct cell *cell = *at;
    *f = (struct queue_frame){.whole = cell->kind & KIND_FIRST,
                              .kind = cell->kind & KIND_MEDIA ? QUEUE_MEDIA : QUEUE_ANSWER,
                              .since = cell->since};
    do {
        if (cell->len > cap - f->len)
            return false;
        memcpy(out + f->len, cell->data, cell->len);
        f->len += cell->len;
        cell = cell->next;
    } while (cell && !(cell->kind & KIND_FIRST));
    *at = cell;
    return true;
}

void queue_clear(struct cells *c, struct queue *q)
{
    while (q->first) {
        struct cell *cell = q->first;
        q->first = cell->next;
        cell_give(c, cell);
    }
    *q = (struct queue){0};
}
