/*
 * Records are { u32 length, bytes, padding to 8 } and never wrap: where the rest of the ring is too
 * short a record of length SKIP fills it. head and tail count bytes for ever, modulo 2^32.
 *
 * A record posted to an empty box lies at the start of the ring, so that a box whose reader keeps
 * up stays in the same few pages and cache lines. The writer moves base while there is nothing to
 * read; the reader looks at it only after it has seen a tail that was published later.
 */
#include "mailbox.h"

#include <string.h>

#include "memory.h"

#define SKIP 0xffffffffu

static uint32_t record_size(uint32_t len)
{
    return (uint32_t)((sizeof(uint32_t) + (size_t)len + 7) & ~(size_t)7);
}

/* Where in the ring that byte is. */
static uint32_t offset(const struct mailbox *m, uint32_t at)
{
    return (at - m->base) & (m->size - 1);
}

bool mailbox_init(struct mailbox *m, uint32_t size)
{
    *m = (struct mailbox){.buf = memory_reserve(size), .size = size};
    return m->buf != NULL;
}

void mailbox_destroy(struct mailbox *m)
{
    memory_release(m->buf, m->size);
    m->buf = NULL;
}

uint32_t mailbox_room(struct mailbox *m)
{
    uint32_t tail = atomic_load_explicit(&m->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&m->head, memory_order_acquire);
    uint32_t free_bytes = m->size - (tail - head);
    /* The worst case: a record that just fails to fit before the end starts at the beginning. */
    return free_bytes / 2 > 16 ? free_bytes / 2 - 16 : 0;
}

uint32_t mailbox_waiting(struct mailbox *m)
{
    /* head first: tail never falls behind a head that was read before it. */
    uint32_t head = atomic_load_explicit(&m->head, memory_order_acquire);
    return atomic_load_explicit(&m->tail, memory_order_relaxed) - head;
}

uint32_t mailbox_posted(struct mailbox *m)
{
    return atomic_load_explicit(&m->tail, memory_order_relaxed);
}

uint32_t mailbox_consumed(struct mailbox *m)
{
    return atomic_load_explicit(&m->head, memory_order_acquire);
}

uint8_t *mailbox_reserve(struct mailbox *m, uint32_t len)
{
    uint32_t tail = atomic_load_explicit(&m->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&m->head, memory_order_acquire);
    uint32_t free_bytes = m->size - (tail - head);
    uint32_t need = record_size(len);
    if (head == tail)
        m->base = tail;
    uint32_t to_end = m->size - offset(m, tail);
    if (len >= m->size || free_bytes < need)
        return NULL;
    m->reserved = 0;
    if (to_end < need) {
        if (free_bytes < to_end + need)
            return NULL;
        uint32_t skip = SKIP;
        memcpy(m->buf + offset(m, tail), &skip, sizeof(skip));
        m->reserved = to_end;
        tail += to_end;
    }
    return m->buf + offset(m, tail) + sizeof(uint32_t);
}

void mailbox_commit(struct mailbox *m, uint8_t *record, uint32_t len)
{
    memcpy(record - sizeof(uint32_t), &len, sizeof(len));
    uint32_t tail = atomic_load_explicit(&m->tail, memory_order_relaxed);
    atomic_store_explicit(&m->tail, tail + m->reserved + record_size(len), memory_order_release);
}

const uint8_t *mailbox_peek(struct mailbox *m, uint32_t *len)
{
    uint32_t head = atomic_load_explicit(&m->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&m->tail, memory_order_acquire);
    if (head == tail)
        return NULL;
    const uint8_t *p = m->buf + offset(m, head);
    memcpy(len, p, sizeof(*len));
    if (*len == SKIP) {
        head += m->size - offset(m, head);
        atomic_store_explicit(&m->head, head, memory_order_release);
        if (head == tail)
            return NULL;
        p = m->buf + offset(m, head);
        memcpy(len, p, sizeof(*len));
    }
    return p + sizeof(uint32_t);
}

void mailbox_consume(struct mailbox *m)
{
    uint32_t head = atomic_load_explicit(&m->head, memory_order_relaxed);
    uint32_t len;
    memcpy(&len, m->buf + offset(m, head), sizeof(len));
    atomic_store_explicit(&m->head, head + record_size(len), memory_order_release);
}
