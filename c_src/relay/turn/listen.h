/*
 * The listeners of one worker, from the socket the control thread opened to its closing. A listener
 * that is no longer wanted goes when nobody answers through it any more, in any worker: the kernel
 * would send those of the others astray if one socket of the group were missing.
 */
#ifndef MEERKAT_LISTEN_H
#define MEERKAT_LISTEN_H

#include "mail.h"
#include "shard.h"

/* A new listener, or another realm and other address of one that is open. */
void listen_mail(struct shard *sh, const struct mail_listen *m);
/* It takes no more clients. */
void listen_end(struct shard *sh, uint32_t id);
/* Nobody answers through it any more, in any worker. */
void listen_over(struct shard *sh, uint32_t id);
/* Closes those that are over; tells of those that have nobody left here. Once a turn. */
void listen_close(struct shard *sh);
/* Other buffers for those that are open. */
void listen_buffers(struct shard *sh, const struct socket_buffers *b);

#endif
