/*
 * Mail between the control thread and the workers, and from one worker to another. Knows what each
 * kind asks of this thread, and nothing of commands.
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
/* Lets answers leave that wait for what was taken to be in the pipe. */
void office_told(struct control *c);
/* Has a worker posted what was not taken? */
bool office_has_mail(struct control *c);

/* A worker's: ports in its way out are free at once, and frames are written, if it is to be now, or
 * with the next that are. False when it must ring the doorbell after all: another holds the pipe,
 * it is full, or some of the mail is for the control thread. ctx is the struct control. */
bool office_tell(void *ctx, unsigned worker, bool now);

#endif
