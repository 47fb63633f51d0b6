/*
 * Allocations as Erlang has them made, prolonged and ended, with the UDP sockets they relay by. The
 * ports were chosen and the sockets bound by the control thread.
 */
#ifndef MEERKAT_ALLOC_H
#define MEERKAT_ALLOC_H

#include "mail.h"
#include "shard.h"

/* ALLOC_CREATE, with its ports. There is room for the reply. */
void alloc_create(struct shard *sh, const struct mail_alloc *m);
void alloc_refresh(struct shard *sh, const struct ctl_frame *f);
void alloc_delete(struct shard *sh, const struct ctl_frame *f);

/* Ends a session: SESSION_GONE follows when its sockets are closed. */
void alloc_end(struct shard *sh, struct session *s, enum gone_reason reason);
/* Those whose clients ended them within their grants (session_ended), in this turn. */
void alloc_end_what_ended(struct shard *sh);
/* Tells Erlang of sessions that are gone, as far as there is room. */
void alloc_report_gone(struct shard *sh);

/* SESSION_INFO: what one has relayed. SESSIONS: what each has, a page. False without room for it.
 */
bool alloc_info(struct shard *sh, const struct ctl_frame *f);
bool alloc_list(struct shard *sh, const struct ctl_frame *f);

#endif
