/*
 * How the program outlives Erlang: what it keeps for the next one, for how long it goes on without
 * any, and the socket where the next one comes (tether.h). docs/design/survival.md has the order of
 * events. Without a socket the program ends with Erlang.
 */
#ifndef MEERKAT_SURVIVAL_H
#define MEERKAT_SURVIVAL_H

#include <poll.h>

#include "control_state.h"

/* At the start: the next Erlang comes to that socket, bound at that path; or, where another program
 * has it still, will. */
void survival_open(struct control *c, const struct tether_start *start);
/* The next Erlang comes to that socket, which is bound at the path. */
void survival_place(struct control *c, int socket);
/* At the end. */
void survival_close(struct control *c);

/* Whoever may come next, for poll. */
struct pollfd survival_poll(const struct control *c);
/* When there is something to do at the latest. */
uint64_t survival_due(const struct control *c);

/* Erlang has said all that it will: once that is carried out the program is on its own, or ends. */
void survival_look(struct control *c);
/* Lets the next Erlang in, or ends the program when none has come. True when one has come: it is to
 * be greeted. */
bool survival_turn(struct control *c);

/* Does it go on when Erlang is gone? */
bool survival_is_wanted(const struct control *c);
/* It does from here on. */
void survival_leave(struct control *c);
/* What the next Erlang is to be told first, for another program to tell it. */
void survival_put_kept(const struct control *c, struct handed *h);

/* KEEP, ADOPT, LIVE */
void survival_keep(struct control *c, const struct ctl_frame *f);
void survival_adopt(struct control *c, const struct ctl_frame *f);
void survival_live(struct control *c, const struct ctl_frame *f);

#endif
