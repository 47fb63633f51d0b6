/*
 * Mobility (RFC 8016): sessions whose clients appear at another 5-tuple.
 */
#ifndef MEERKAT_MOVE_H
#define MEERKAT_MOVE_H

#include "mail.h"
#include "shard.h"

/* RFC 8016: a session gets another 5-tuple. There is room for the reply. */
void move_session(struct shard *sh, const struct mail_move *m);
/* A new session's client comes to the worker `home`, which was another where it has moved. */
void move_settle(struct shard *sh, struct session *s, unsigned home);
/* The 5-tuple whose datagrams come to this worker, though the session lives in another. */
void move_roamer(struct shard *sh, const struct mail_roam *m);
/* A message from such a 5-tuple, where it came in, and where it belongs. False: no such 5-tuple. */
bool move_carry(struct shard *sh, const struct flow *f, uint8_t *data, size_t len);
void move_carried(struct shard *sh, const struct mail_carry *m, const uint8_t *data);
/* The session is about to be freed: its 5-tuples are nobody's. There is room to say so. */
void move_forget(struct shard *sh, struct session *s);

#endif
