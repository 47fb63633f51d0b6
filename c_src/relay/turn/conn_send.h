/*
 * What goes out on a connection: frames into its queue as they come, and at the end of a turn all
 * that waits in one send, in TLS records where it has them. Closes nothing.
 */
#ifndef MEERKAT_CONN_SEND_H
#define MEERKAT_CONN_SEND_H

#include "shard.h"

/* A whole message in two parts. */
void conn_put(struct shard *sh, struct stream *s, const uint8_t *head, size_t head_len,
              const uint8_t *data, size_t len);

/* It has something to send at the end of the turn, or may have. */
static inline void conn_touch(struct shard *sh, struct stream *s)
{
    if (list_empty(&s->dirty))
        list_add_tail(&sh->streams.dirty, &s->dirty);
}

/* Text for a client of another protocol; its length is a multiple of 4, and it is sent like a
 * message. */
void conn_put_words(struct shard *sh, struct stream *s, const char *words);

/* Bytes for the network that are no frames: an alert, an answer to a change of keys. They go before
 * what waits. */
void conn_put_raw(struct shard *sh, struct stream *s, const uint8_t *data, size_t len);

/* Counts what waits as not sent: the connection ends. */
void conn_forsake(struct shard *sh, const struct stream *s);

/* Sends what waits, as far as the kernel takes it. False when the connection is broken. */
bool conn_flush(struct shard *sh, struct stream *s);

/* Bytes of a connection that is joined: they go as they are, ahead of the queue, which is empty.
 * What the kernel does not take waits. False when the connection is broken. */
bool conn_pass(struct shard *sh, struct stream *s, const uint8_t *data, size_t len);

/* No more will be sent. Says so to the client, if nothing waits; else later. False when the
 * connection is broken. */
bool conn_say_end(struct shard *sh, struct stream *s);

/* Reads no more, sends what waits, and goes: conn_flush_all sees to it. */
void conn_wind_up(struct shard *sh, struct stream *s, bool heard_end);

/* Goes at the end of the turn, without another word; the client sees that it was broken off. */
void conn_cut(struct shard *sh, struct stream *s);

/* Nothing waits. */
static inline bool conn_is_flushed(const struct stream *s)
{
    return !s->out.len && !s->queue.first;
}

#endif
