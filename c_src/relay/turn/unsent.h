/*
 * What was counted as relayed when it was handed on, and then was not sent: the kernel refused it,
 * or it waited too long for a client who does not read. It is taken back from what counts as sent,
 * and from what its allocation counts as relayed, and counts as dropped for its reason.
 */
#ifndef MEERKAT_UNSENT_H
#define MEERKAT_UNSENT_H

#include "ctl.h"
#include "shard.h"

/* Out of a relayed socket of the session's. */
void unsent_to_peer(struct shard *sh, struct session *s, const struct io_unsent *u);

/* Out of a listener's socket to the client of this flow, media or an answer. */
void unsent_to_client(struct shard *sh, const struct flow *f, const struct io_unsent *u);

/* A message of this flow that could not be handed on, and counts as sent to nobody. `start` is its
 * beginning. */
void unsent_message(struct shard *sh, const struct flow *f, enum counter reason,
                    const uint8_t *start, size_t start_len);

/* So many messages to the client of this flow, all media; `payload` are bytes of peers in them. */
void unsent_media(struct shard *sh, const struct flow *f, enum counter reason, uint64_t n,
                  uint64_t payload);
#endif
