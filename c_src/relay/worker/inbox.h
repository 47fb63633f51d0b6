/*
 * The mail and letters a worker gets, opened: each kind goes to the room that carries it out, by a
 * table.
 */
#ifndef MEERKAT_INBOX_H
#define MEERKAT_INBOX_H

#include "shard.h"

/* Opens what has come. False when some is left, for want of room for replies. */
bool inbox_read(struct shard *sh);

/* Throws away what is left at the end. */
void inbox_discard(struct shard *sh);

#endif
