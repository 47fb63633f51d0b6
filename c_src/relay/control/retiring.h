/*
 * Another relay program takes the place of this one: it stops reading datagrams, hands its sockets
 * and what it knows to that one, and ends when that one reads. Where it does not come to that, this
 * one reads on. docs/design/upgrade.md has the order of events.
 */
#ifndef MEERKAT_RETIRING_H
#define MEERKAT_RETIRING_H

#include <poll.h>

#include "control_state.h"

/* RETIRE */
void retiring_ask(struct control *c, const struct ctl_frame *f);
struct pollfd retiring_poll(const struct control *c);
/* When there is something to do at the latest. */
uint64_t retiring_due(const struct control *c);
void retiring_turn(struct control *c);

/* At the end. */
void retiring_close(struct control *c);

#endif
