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

/* The session in that place of the slab; NULL where there is none that lives. */
struct session *keep_session_at(const struct shard *sh, uint64_t at);
/* The commands that would make it, each behind its length in 32 bits, and its note. */
void keep_put_session(const struct shard *sh, const struct session *s, struct wbytes *w);

/* STATES: some sessions, as the commands that would make them. False without room. */
bool keep_states(struct shard *sh, const struct ctl_frame *f);

#endif
