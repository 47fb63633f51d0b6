/*
 * What a worker has, for another relay program that takes its place: its sockets, what was read of
 * connections and waits for them, and its sessions as the commands that would make them. They stay
 * the worker's own as well, until this program ends.
 */
#ifndef MEERKAT_HANDING_H
#define MEERKAT_HANDING_H

#include "handed.h"
#include "shard.h"

/* MAIL_HOLD and MAIL_GO_ON: what comes waits in the sockets, or is received again. */
void handing_hold(struct shard *sh);
void handing_go_on(struct shard *sh);
/* Each turn: says so once nothing is received any more. */
void handing_look(struct shard *sh);

/* MAIL_HAND. False when it must wait for room to say so. */
bool handing_hand(struct shard *sh);

#endif
