/*
 * Posting: frames to Erlang, mail to the control thread, which passes on what is for another
 * worker, and letters straight to that. Room is asked for once, before a command takes effect; what
 * then has to be said fits. Rings no bell: whoever ends the turn does, by what is noted here.
 */
#ifndef MEERKAT_POST_H
#define MEERKAT_POST_H

#include "mail.h"
#include "shard.h"

/* Is there room for all that carrying out one command may have to say? */
bool post_has_room(struct shard *sh);

/* Is there room for a frame that can wait, with what must not wait unharmed? */
bool post_may_ask(struct shard *sh);

/* A frame. False when the way out is full. */
bool post_frame(struct shard *sh, const struct ctl_frame *f);
/* The same for what can wait: false also when the way out is nearly full. */
bool post_request(struct shard *sh, const struct ctl_frame *f);

/* A mail to the control thread. False without room, of which `reserve` bytes must stay. */
bool post_mail(struct shard *sh, enum mail kind, const void *data, size_t len, const void *more,
               size_t more_len, uint32_t reserve);

/* A letter to another worker, past the control thread. False without room. */
bool post_letter(struct shard *sh, unsigned to, enum mail kind, const void *data, size_t len,
                 const void *more, size_t more_len);
/* Wakes those that were written to. */
void post_wake(struct shard *sh);

/* From here on whatever is posted may wait a moment, for something that may not or until
 * post_haste, which gets what this returned. For frames that nobody waits for. */
bool post_calm(struct shard *sh);
void post_haste(struct shard *sh, bool rang);

#endif
