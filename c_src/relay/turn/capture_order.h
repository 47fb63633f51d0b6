/*
 * The order to capture a session, or to go on with it or end it (CAPTURE of ctl.def); what is done
 * with its packets then is in capturing.h.
 */
#ifndef MEERKAT_CAPTURE_ORDER_H
#define MEERKAT_CAPTURE_ORDER_H

#include "ctl.h"
#include "shard.h"

/* CAPTURE. False without room for the reply. */
bool capture_order(struct shard *sh, const struct ctl_frame *f);

#endif
