/*
 * How many of something a source has at a time, and all sources together: connections that have
 * proven nothing yet. A source is a prefix (IPv4 /32, IPv6 /64, whatever the port). A table of
 * fixed size under a secret hash, as that of ratelimit.h: prefixes that meet in it share a limit.
 */
#ifndef MEERKAT_CROWD_H
#define MEERKAT_CROWD_H

#include <stdatomic.h>

#include "addr.h"

enum { CROWD_PLACES = 1 << 14 };

struct crowd {
    _Atomic uint32_t each_max, all_max;
    _Atomic uint32_t all;
    uint8_t key[16];
    _Atomic uint32_t places[CROWD_PLACES];
};

void crowd_init(struct crowd *c, uint32_t each_max, uint32_t all_max);
/* Another limit of a source. Any thread. */
void crowd_set(struct crowd *c, uint32_t each_max);

/* One more, unless there are too many. Any thread. */
bool crowd_enter(struct crowd *c, const struct addr *source);
/* One more in any case: it was one before, and is again. */
void crowd_return(struct crowd *c, const struct addr *source);
void crowd_leave(struct crowd *c, const struct addr *source);

#endif
