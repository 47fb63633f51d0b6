/*
 * Erlang's commands to one worker, by code. Who carries each out stands in command.c.
 */
#ifndef MEERKAT_COMMAND_H
#define MEERKAT_COMMAND_H

#include "shard.h"

/* A frame of Erlang's; false when it must be tried again later, because there is no room for its
 * reply. */
bool command_frame(struct shard *sh, const uint8_t *data, size_t len);

#endif
