/*
 * Follows the addresses of this host as they come and go: policies are made of them, and Erlang is
 * told which relay addresses and listeners can be used.
 */
#ifndef MEERKAT_WATCH_H
#define MEERKAT_WATCH_H

#include "control_state.h"

/* Reads the addresses for the first time. */
void watch_start(struct control *c);
void watch_stop(struct control *c);

/* What is to be polled for word of a change; -1 for nothing. */
int watch_fd(const struct control *c);
/* When watch_turn has something to do though nothing is readable. */
uint64_t watch_next(const struct control *c);
/* Reads the addresses again if they may have changed, or if it is time; after a change the workers
 * get a new policy and Erlang a HOST. */
void watch_turn(struct control *c);

/* HOST, after something that it tells has changed. Looks which pools can be bound. */
void watch_tell(struct control *c);

#endif
