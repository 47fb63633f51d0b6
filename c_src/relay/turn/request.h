/*
 * Requests on their way to Erlang, and Erlang's answers on their way to clients.
 */
#ifndef MEERKAT_REQUEST_H
#define MEERKAT_REQUEST_H

#include "shard.h"

/* Takes a credit and hands the request to Erlang, or drops it. */
void request_forward(struct shard *sh, const struct listener *l, const struct flow *f,
                     const uint8_t *data, size_t len);
/* The same, and nothing that the client sends behind it is looked at before it is answered: it may
 * be no message. */
void request_forward_held(struct shard *sh, const struct listener *l, const struct flow *f,
                          const uint8_t *data, size_t len);
/* Its credentials were wrong: its source has fewer tries left. Before request_answer. */
void request_failed(struct shard *sh, uint64_t number);
/* ANSWER: sends the packet, returns the credit. */
void request_answer(struct shard *sh, uint64_t number, const uint8_t *packet, size_t len);

/* Erlang is gone: what it has not answered nobody will. */
void request_forget_all(struct shard *sh);

#endif
