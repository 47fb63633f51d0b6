/*
 * Which requests may go to Erlang. Needs no secret of users' and keeps no state.
 */
#ifndef MEERKAT_CHALLENGE_H
#define MEERKAT_CHALLENGE_H

#include "shard.h"

/* True when the request may go to Erlang: it carries integrity, the attributes that go with it,
 * and a nonce of ours that is good for this client. Otherwise it has been answered 401, 400 or
 * 438 (RFC 8489 9.2.4). */
bool challenge_passed(struct shard *sh, const struct listener *l, const struct flow *f,
                      const struct stun_view *v);

#endif
