/*
 * What all workers have counted, and what is in use.
 */
#ifndef MEERKAT_STATS_H
#define MEERKAT_STATS_H

#include "control_state.h"

/* STATS */
void stats(struct control *c, const struct ctl_frame *f);

#endif
