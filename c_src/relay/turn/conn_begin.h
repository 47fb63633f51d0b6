/*
 * How a connection begins: with the header of a proxy where it comes from one, and then with what
 * tells what it is to be. Looks at what has come and takes nothing but the header. Closes nothing.
 */
#ifndef MEERKAT_CONN_BEGIN_H
#define MEERKAT_CONN_BEGIN_H

#include "proxy.h"
#include "shard.h"

enum conn_begin {
    CONN_BEGIN_WAIT, /* what has come does not tell yet */
    CONN_BEGIN_GONE, /* the client has closed, or the connection is broken */
    CONN_BEGIN_STUN,
    CONN_BEGIN_TLS,
    CONN_BEGIN_WEB,  /* TLS, for a web server */
    CONN_BEGIN_HTTP, /* without TLS, where nothing but that is taken */
    CONN_BEGIN_BAD,  /* why is counted */
};

/* ended: the end may be behind what has come. *web: of CONN_BEGIN_WEB. */
enum conn_begin conn_begin(struct shard *sh, const struct stream *s, bool ended,
                           const struct addr **web);

/* The header of a proxy, of a connection that awaits one: CONN_BEGIN_STUN when it is there, and
 * taken. */
enum conn_begin conn_begin_header(struct shard *sh, const struct stream *s, bool ended,
                                  struct proxy_header *out);

#endif
