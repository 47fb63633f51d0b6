/*
 * This program takes the place of another one: it has that one's sockets and knows what that knew,
 * and reads nothing before Erlang says LIVE. Until then the other one may go on.
 */
#ifndef MEERKAT_TAKEOVER_H
#define MEERKAT_TAKEOVER_H

#include "control_state.h"

/* At the start, with what it was left, if anything. */
void takeover_open(struct control *c, struct tether_start *start);
/* At the end. */
void takeover_close(struct control *c);

/* When there is something to do at the latest. */
uint64_t takeover_due(const struct control *c);
/* Takes the lock and the socket once the other one has ended. */
void takeover_turn(struct control *c);

/* That listener is open: the connections that came by it and were left go to their workers. */
void takeover_listens(struct control *c, uint32_t listener);

/* ADOPT, STATES and LIVE while the other one may go on. */
void takeover_adopt(struct control *c, const struct ctl_frame *f);
void takeover_states(struct control *c, const struct ctl_frame *f);
void takeover_live(struct control *c, const struct ctl_frame *f);

#endif
