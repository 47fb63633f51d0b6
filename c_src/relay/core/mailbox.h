/*
 * One-way mail between two threads: a ring of bytes holding records, one writer, one reader, no
 * lock. A record is written in place and read in place. It knows nothing of what it carries, and
 * does not wake the reader: the writer does (post.h, post_office.h).
 */
#ifndef MEERKAT_MAILBOX_H
#define MEERKAT_MAILBOX_H

#include <stdatomic.h>

#include "base.h"

struct mailbox {
    uint8_t *buf;
    uint32_t size;         /* a power of two */
    _Atomic uint32_t head; /* the reader's */
    _Atomic uint32_t tail; /* the writer's, published */
    uint32_t reserved;     /* the writer's: bytes between tail and the end of the open record */
    uint32_t base;         /* the writer's: the count at which the ring begins */
};

bool mailbox_init(struct mailbox *m, uint32_t size);
void mailbox_destroy(struct mailbox *m);

/* Writer: bytes a record could have now without waiting for the reader. */
uint32_t mailbox_room(struct mailbox *m);
/* Any thread: bytes posted and not consumed, as of some moment just past. */
uint32_t mailbox_waiting(struct mailbox *m);
/* Writer: how many bytes were posted in all, modulo 2^32; and any thread: how many consumed. */
uint32_t mailbox_posted(struct mailbox *m);
uint32_t mailbox_consumed(struct mailbox *m);
/* Writer: room for a record of up to len bytes, or NULL. Followed by mailbox_commit. */
uint8_t *mailbox_reserve(struct mailbox *m, uint32_t len);
/* Writer: publishes the reserved record with its final length, at most what was reserved. */
void mailbox_commit(struct mailbox *m, uint8_t *record, uint32_t len);

/* Reader: the oldest record, or NULL; valid until mailbox_consume. */
const uint8_t *mailbox_peek(struct mailbox *m, uint32_t *len);
void mailbox_consume(struct mailbox *m);

#endif
