/*
 * What a session may reach: permissions and channels installed for it. Erlang decides who gets
 * which, by a command or by a grant; here each peer is held against the policy once more.
 */
#ifndef MEERKAT_PEERS_H
#define MEERKAT_PEERS_H

#include "shard.h"

void peers_permit(struct shard *sh, const struct ctl_frame *f);
void peers_channel(struct shard *sh, const struct ctl_frame *f);

/* The checks every peer passes before anything is installed for it; when not, why_not says why. */
enum ctl_status peers_check(struct shard *sh, struct session *s, const struct addr *peer,
                            char why_not[POLICY_TEXT_MAX]);
/* Is there room for so many permissions more? */
bool peers_have_room(const struct shard *sh, uint32_t n);
/* Of a peer that passed, where there is room. */
void peers_permit_one(struct shard *sh, struct session *s, const struct addr *peer,
                      uint64_t deadline);

struct peers_binding {
    uint16_t number;
    struct addr peer;
    uint32_t lifetime_ms, permission_ms; /* permission_ms 0: without one */
};

/* Binds or renews a channel, or changes nothing and says why. */
enum ctl_status peers_bind(struct shard *sh, struct session *s, const struct peers_binding *b,
                           char why_not[POLICY_TEXT_MAX]);

#endif
