/*
 * What a session may reach: permissions and channels installed for it. Erlang decides who gets
 * which; here each peer is held against the policy once more.
 */
#ifndef MEERKAT_PEERS_H
#define MEERKAT_PEERS_H

#include "shard.h"

void peers_permit(struct shard *sh, const struct ctl_frame *f);
void peers_channel(struct shard *sh, const struct ctl_frame *f);

#endif
