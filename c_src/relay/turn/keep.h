/*
 * What a worker keeps for the next Erlang where one is gone: its sessions as they are, each with
 * the note that Erlang gave with it, and nothing that the one before had in hand. Decides nothing.
 */
#ifndef MEERKAT_KEEP_H
#define MEERKAT_KEEP_H

#include "shard.h"

/* NOTE */
void keep_note(struct shard *sh, const struct ctl_note *m);

/* MAIL_FORGET: Erlang is gone. Requests it had in hand are given up, sessions whose clients were
 * not told of them end. False when it must wait for room to say so. */
bool keep_forget(struct shard *sh);

/* STATES: some sessions, as the commands that would make them. False without room. */
bool keep_states(struct shard *sh, const struct ctl_frame *f);

#endif
