/*
 * Requests that Erlang has decided beforehand (docs/design/grants.md): Refresh, CreatePermission
 * and ChannelBind of a session that has a grant, where the answer is a success.
 */
#ifndef MEERKAT_GRANTED_H
#define MEERKAT_GRANTED_H

#include "shard.h"

/* GRANT. */
void granted_give(struct shard *sh, const struct ctl_grant *m);
/* GRANTS. */
void granted_epoch(struct shard *sh, const struct ctl_grants *m);
/* JOURNAL. Where it cannot be opened Erlang is told by frames. */
void granted_journal(struct shard *sh, const struct ctl_journal *m);

/* Does what a request with a good nonce asks for and answers it, or owes it its answer. False, and
 * nothing has happened, where it is Erlang's to answer. */
bool granted_request(struct shard *sh, const struct listener *l, const struct flow *f,
                     const struct stun_view *v);

/* Sends the answers that are owed and of which Erlang has been told, which is all that was posted
 * up to `told`. Were there any? */
bool granted_pay(struct shard *sh, uint32_t told);

#endif
