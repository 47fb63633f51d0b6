/*
 * RFC 6062 5.4: a client takes up a connection with a peer. The kernel may have brought the
 * client's connection to another worker than that of the session: then it goes there, with what was
 * read of it and its TLS, so that again all of a session is in one worker.
 */
#ifndef MEERKAT_JOIN_H
#define MEERKAT_JOIN_H

#include "mail.h"
#include "shard.h"

/* JOIN, behind its ANSWER_IF. */
void join_client(struct shard *sh, const struct ctl_frame *f);

/* MAIL_JOIN, and the bytes behind it. */
void join_arrived(struct shard *sh, const struct mail_join *m, const uint8_t *bytes);

#endif
