/*
 * Whatever a client sends comes in here, whatever it travelled on, and is answered, forwarded,
 * handed to Erlang or dropped under a reason. See input.c for who does which.
 */
#ifndef MEERKAT_INPUT_H
#define MEERKAT_INPUT_H

#include "shard.h"

/* One whole message of a client, and the listener it came by. data may be sent from until the next
 * io_wait; what is around it may be another message. */
void input_message(struct shard *sh, const struct listener *l, const struct flow *f, uint8_t *data,
                   size_t len);

#endif
