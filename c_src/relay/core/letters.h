/*
 * From one worker to another, past the control thread: media must not wait for what Erlang reads.
 * Each worker has a box that all others write to, one at a time under a lock that is held for the
 * copy of a datagram. What a full box has no room for is the writer's to count.
 */
#ifndef MEERKAT_LETTERS_H
#define MEERKAT_LETTERS_H

#include <pthread.h>

#include "mailbox.h"

struct letters {
    pthread_mutex_t lock; /* the writers' */
    struct mailbox box;
};

/* False without address space. */
bool letters_init(struct letters *l);
void letters_destroy(struct letters *l);

/* Two parts of a record one behind the other, after the byte that tells its kind (mail.h). Any
 * thread. False when the box is full. */
bool letters_put(struct letters *l, uint8_t kind, const void *data, size_t len, const void *more,
                 size_t more_len);

#endif
