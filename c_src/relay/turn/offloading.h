/*
 * Which flows the kernel relays by itself (docs/design/offload.md): channels of UDP clients that
 * are hot, as long as nothing about them needs a socket. Every packet of one was relayed by the
 * sockets' way before, so all checks were passed; what they looked at is looked at again once a
 * second, and whatever changes it voids the entries at once (session_changed).
 */
#ifndef MEERKAT_OFFLOADING_H
#define MEERKAT_OFFLOADING_H

#include "shard.h"

/* Is there a kernel's path at all? Asked by whoever calls the next two, so that nobody else pays
 * for more than the question. */
static inline bool offloading_is_on(const struct shard *sh)
{
    return UNLIKELY(sh->sessions.offloads.kernel != NULL);
}

/* A part of the round that is due each second. */
void offloading_turn(struct shard *sh);

/* So long until the next part is due. */
static inline uint64_t offloading_sleep(const struct shard *sh)
{
    uint64_t due = sh->offloading.left ? 0 : sh->offloading.round;
    return due - MIN(due, sh->time.now);
}

/* No packet of this worker's sessions goes by the kernel's path from here on; or again. */
void offloading_hold(struct shard *sh, bool held);

#endif
