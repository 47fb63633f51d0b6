/*
 * Which flows the kernel relays by itself (docs/design/offload.md): channels of UDP clients that
 * are hot, as long as nothing about them needs a socket. Every packet of one was relayed by the
 * sockets' way before, so all checks were passed; what they looked at is looked at again once a
 * second, and whatever changes it voids the entries at once (session_changed).
 */
#ifndef MEERKAT_OFFLOADING_H
#define MEERKAT_OFFLOADING_H

#include "shard.h"

/* A part of the round that is due each second. */
void offloading_turn(struct shard *sh);

/* When the next part is due; UINT64_MAX: never. */
static inline uint64_t offloading_due(const struct shard *sh)
{
    if (LIKELY(!sh->sessions.offloads.kernel))
        return UINT64_MAX;
    return sh->offloading.left ? 0 : sh->offloading.round;
}

/* No packet of this worker's sessions goes by the kernel's path from here on; or again. */
void offloading_hold(struct shard *sh, bool held);

#endif
