/*
 * A connection to a TURN server over TCP or TLS, as a client has it: frames out and in, and the
 * requests that make an allocation. It blocks until it is told not to.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include <openssl/ssl.h>

#include "frame.h"
#include "turn.h"

enum { STREAM_IN = 64 * 1024 };

struct stream {
    int fd;   /* -1: none */
    SSL *ssl; /* NULL over TCP */
    size_t have, at;
    struct turn_client turn;
    uint8_t in[STREAM_IN];
};

/* Any certificate will do; no session is resumed. */
SSL_CTX *stream_tls(void);

/* Connects, over TLS where tls is given. False when that fails. */
bool stream_open(struct stream *s, const struct addr *server, SSL_CTX *tls);
void stream_close(struct stream *s);

/* All of it; over TLS in one record. */
bool stream_write(struct stream *s, const void *data, size_t len);

/* Takes in what there is: -1 closed, 0 nothing now, 1 something. */
int stream_fill(struct stream *s);

/* The next whole frame of what was taken in; false without. Good until the next stream_fill. */
bool stream_next(struct stream *s, const uint8_t **data, struct frame *frame);

/* A Binding request and its answer. */
bool stream_binding(struct stream *s);

/* Carries out a plan (fleet.h) of a client, whose channels are for peer; TURN_WELL or why not. */
int stream_plan(struct stream *s, struct turn_login *login, const enum turn_step *plan,
                const struct addr *peer);

#endif
