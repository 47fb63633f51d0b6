/*
 * Drops that an operator can do something about and would not notice in the counters: one of each
 * kind is told to Erlang now and then.
 */
#ifndef MEERKAT_NOTICE_H
#define MEERKAT_NOTICE_H

#include "shard.h"

/* The share of a client's source is used up: that of strangers, or (failures) that of requests with
 * wrong credentials. A whole site may be behind one address. */
void notice_over_rate(struct shard *sh, const struct flow *f, bool failures);

/* A datagram for a port of a permitted address that may not be reached. */
void notice_closed_port(struct shard *sh, struct session *s, const struct permission *perm,
                        const struct addr *peer);
#endif
