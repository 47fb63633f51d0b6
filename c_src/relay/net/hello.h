/*
 * A ClientHello, as far as it tells where a connection belongs: the name it asks for (SNI, RFC 6066
 * 3) and the protocols it offers (ALPN, RFC 7301). Reads bytes of the network, which may end
 * anywhere; a hello may lie in several records. Changes nothing and keeps nothing.
 */
#ifndef MEERKAT_HELLO_H
#define MEERKAT_HELLO_H

#include "base.h"

enum {
    HELLO_MAX = 16 * 1024, /* bytes of one, as of the network; post-quantum ones have 2 KB */
    HELLO_NAME_MAX = 255,
};

enum hello_result {
    HELLO_WHOLE,
    HELLO_MORE, /* what is there is the beginning of one */
    HELLO_BAD,  /* none, or a broken one; that of SSL 2 too */
};

struct hello {
    size_t name_len;
    char name[HELLO_NAME_MAX + 1]; /* in small letters; empty: none, or none that can be one */
    bool offers;                   /* it offers protocols, */
    bool offers_ours;              /* among them one of ours (RFC 7443) */
};

/* One that takes more than HELLO_MAX bytes is broken. The message is put together in the caller's
 * memory. */
enum hello_result hello_read(const uint8_t *data, size_t len, uint8_t message[HELLO_MAX],
                             struct hello *out);

#endif
