/*
 * Replies to commands. Each command has exactly one, posted after it took effect; room for it was
 * asked for before. A reply that says ok may be promised to answer a client as well (ANSWER_IF).
 */
#ifndef MEERKAT_REPLY_H
#define MEERKAT_REPLY_H

#include "shard.h"

/* ANSWER_IF: what to answer when the command of that ref, which comes next, is done. */
void reply_promise(struct shard *sh, uint32_t ref, const struct ctl_answer_if *m);

void reply(struct shard *sh, const struct ctl_frame *to, uint64_t session, enum ctl_status status,
           const char *detail);

#endif
