/*
 * How the program outlives Erlang: what it keeps for the next one, for how long it goes on without
 * any, and the socket where the next one comes (tether.h). docs/design/survival.md has the order of
 * events. Without a socket the program ends with Erlang.
 */
#ifndef MEERKAT_SURVIVAL_H
#define MEERKAT_SURVIVAL_H

#include <poll.h>

#include "control_state.h"

/* At the start, with the socket where the next Erlang connects and its path. While another relay
 * program still has the path there is no socket yet (survival_place). */
void survival_open(struct control *c, const struct tether_start *start);
/* The socket is bound at the path now: the next Erlang connects to it. */
void survival_place(struct control *c, int socket);
/* At the end. */
void survival_close(struct control *c);

/* What to poll for a tether: the socket, or the connection of one that was accepted. */
struct pollfd survival_poll(const struct control *c);
/* When survival_turn is to be called at the latest. */
uint64_t survival_due(const struct control *c);

/* After end of file from Erlang, and once all its commands are carried out: the program goes on by
 * itself, or ends. */
void survival_look(struct control *c);
/* Lets the next Erlang in, or ends the program when its time without one is over. True when one was
 * let in: the caller sends HELLO. */
bool survival_turn(struct control *c);

/* Does the program go on when Erlang is gone? */
bool survival_is_wanted(const struct control *c);
/* Erlang is gone: goes on without it from here on. */
void survival_leave(struct control *c);
/* Puts KEPT into h, for the relay program that takes over: it answers the next Erlang's ADOPT. */
void survival_put_kept(const struct control *c, struct handed *h);

/* KEEP, ADOPT, LIVE */
void survival_keep(struct control *c, const struct ctl_frame *f);
void survival_adopt(struct control *c, const struct ctl_frame *f);
void survival_live(struct control *c, const struct ctl_frame *f);

#endif
