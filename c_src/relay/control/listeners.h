/*
 * Listeners as the whole relay has them: opened here, a socket for each worker, and closed when no
 * worker has anybody left there.
 */
#ifndef MEERKAT_LISTENERS_H
#define MEERKAT_LISTENERS_H

#include "control_state.h"

/* LISTEN */
void listeners_open(struct control *c, const struct ctl_frame *f);
/* UNLISTEN, which every worker gets as it came. */
void listeners_close(struct control *c, const struct ctl_frame *f, const uint8_t *frame,
                     size_t len);
/* Answers LISTEN once every worker has said that it listens; or closes what there is and says why
 * it is not so. Once a turn. */
void listeners_answer(struct control *c);
/* Has the sockets closed of those where no worker has anybody left. Once a turn. */
void listeners_end(struct control *c);

#endif
