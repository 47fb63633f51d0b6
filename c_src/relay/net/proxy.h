/*
 * The header of the PROXY protocol, versions 1 and 2: who the client is, as told by a proxy that
 * stands before us. Reads it and writes it. Knows no sockets, and not whose word may be taken:
 * that is front.h.
 */
#ifndef MEERKAT_PROXY_H
#define MEERKAT_PROXY_H

#include "addr.h"

enum {
    PROXY_HEADER_MAX = 4096, /* bytes of one that is read: proxies put certificates into it */
    PROXY_BUILT_MAX = 52,    /* of one that is written */
};

enum proxy_result {
    PROXY_WHOLE,
    PROXY_MORE, /* what is there is the beginning of one */
    PROXY_BAD,  /* no header, a broken one, or one that is too long */
};

struct proxy_header {
    size_t len; /* bytes it takes; what the client says is behind it */
    /* The proxy tells of a client. Otherwise it speaks for itself (a health check), or does not
     * know: whoever has connected is the client. */
    bool announces;
    struct addr client, server; /* where the client sent from, and to */
};

/* The header at the beginning of a connection. */
enum proxy_result proxy_read(const uint8_t *data, size_t len, struct proxy_header *out);

/* That of a datagram: version 2, and whole. */
bool proxy_read_datagram(const uint8_t *data, size_t len, struct proxy_header *out);

/* Do these bytes begin as a header does? For telling why they are refused. */
bool proxy_seems(const uint8_t *data, size_t len);

/* Version 2, for a connection that the client made to the server. How many bytes. */
size_t proxy_build(uint8_t out[PROXY_BUILT_MAX], const struct addr *client,
                   const struct addr *server);

#endif
