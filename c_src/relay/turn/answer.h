/*
 * Answers of the relay itself to whoever asks: whether one may be given, and errors that need no
 * credentials to be told.
 */
#ifndef MEERKAT_ANSWER_H
#define MEERKAT_ANSWER_H

#include "shard.h"

/* May a stranger be answered? Counts when not. */
bool answer_allowed(struct shard *sh, const struct flow *f);

/* An error response of a code alone, sent; `unknown` as for 420. */
void answer_error(struct shard *sh, const struct flow *f, const struct stun_view *v, uint16_t code);

/* A packet of Erlang's, copied. */
void answer_send(struct shard *sh, const struct flow *f, const uint8_t *packet, size_t len);

#endif
