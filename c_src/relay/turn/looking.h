/*
 * Looking at an allocation (docs/design/seeing.md): LOOK begins it and asks what was seen so far.
 * Which are looked at, and for how long, Erlang decides; packets of all others do not come here.
 */
#ifndef MEERKAT_LOOKING_H
#define MEERKAT_LOOKING_H

#include "ctl.h"
#include "shard.h"

/* LOOK. False without room for the reply. */
bool looking_ask(struct shard *sh, const struct ctl_frame *f);

/* A packet of a session that has `detour` and is looked at. */
void looking_packet(struct shard *sh, struct session *s, enum direction d, const struct addr *peer,
                    const uint8_t *data, size_t len);

/* One that was dropped: for whom or from whom, or on which channel. */
void looking_drop(struct shard *sh, struct session *s, enum counter reason, const struct addr *peer,
                  uint16_t channel);

#endif
