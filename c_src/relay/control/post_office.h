/*
 * Mail between the control thread and the workers, and from one worker to another. What this thread
 * does for each kind of mail is here; commands are order.c's.
 */
#ifndef MEERKAT_POST_OFFICE_H
#define MEERKAT_POST_OFFICE_H

#include "control_state.h"
#include "mail.h"

/* Mails a worker, which is woken at the end of this turn; waits until its box has room. */
void office_mail(struct control *c, unsigned worker, enum mail kind, const void *data, size_t len);
/* The same for every worker. */
void office_mail_all(struct control *c, enum mail kind, const void *data, size_t len);
/* Wakes those that were mailed, once for all that they got in this turn. */
void office_wake(struct control *c);

/* Takes what the workers have posted, as far as the pipe has room. */
void office_read(struct control *c);
/* Lets the workers send the answers that wait until what was told to Erlang is in the pipe. */
void office_told(struct control *c);
/* Is there mail from a worker that was not taken yet? */
bool office_has_mail(struct control *c);

/* Called by a worker, in place of waking the control thread: releases the ports in its box and puts
 * its frames into the pipe; `now` says whether they are written at once or with the next ones.
 * False when the worker must ring the doorbell after all: another thread holds the pipe, the pipe
 * is full, or some of the mail is for the control thread. ctx is the struct control. */
bool office_tell(void *ctx, unsigned worker, bool now);

#endif
