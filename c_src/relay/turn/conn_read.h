/*
 * What comes in on a connection: read in pieces of any size, out of TLS records where it has them,
 * cut into frames and handed to input.h. Closes nothing.
 */
#ifndef MEERKAT_CONN_READ_H
#define MEERKAT_CONN_READ_H

#include "shard.h"

enum conn_read {
    CONN_READ_ALL,    /* nothing is left */
    CONN_READ_MORE,   /* it has had its share of the turn */
    CONN_READ_ENDED,  /* the client says no more */
    CONN_READ_BROKEN, /* the connection, or its TLS */
    CONN_READ_BAD,    /* what came cannot be framed */
    CONN_READ_HTTP,   /* so it cannot, for it is HTTP */
};

/* ended: the end may be behind what can be read. One that is held reads nothing. */
enum conn_read conn_read(struct shard *sh, struct stream *s, bool ended);

/* Bytes of TLS that were read elsewhere, of a connection that has read nothing yet: they are taken
 * at the next read. */
enum conn_read conn_feed(struct shard *sh, struct stream *s, const uint8_t *data, size_t len);

#endif
