/*
 * What a session may reach: permissions and channels installed for it, and the policy both obey.
 * Erlang decides who gets which; here each peer is held against the policy once more.
 */
#ifndef MEERKAT_PEERS_H
#define MEERKAT_PEERS_H

#include "shard.h"

void peers_permit(struct shard *sh, const struct ctl_frame *f);
void peers_channel(struct shard *sh, const struct ctl_frame *f);
/* A new policy, the worker's from here on: what it forbids stops now. */
void peers_policy(struct shard *sh, struct policy *p);

#endif
