/*
 * Sockets that another relay program has left to this one: whoever would open one at that address
 * takes it from here instead, with all that waits in it. Belongs to the control thread.
 */
#ifndef MEERKAT_LEFT_H
#define MEERKAT_LEFT_H

#include "addr.h"

/* As the field of SOCKET says. */
enum left_kind {
    LEFT_DATAGRAMS = 1,
    LEFT_STREAMS = 2,
    LEFT_RELAYED = 3,
    LEFT_RELAYED_STREAM = 4,
    LEFT_CONNECTION = 5, /* left_conns.h has those */
};

/* How it stands, where a new one has nothing. */
struct socket_past {
    uint32_t lost; /* datagrams its receive buffer had no room for */
    bool whole;    /* what it sends may not be fragmented */
};

struct left_socket {
    uint8_t kind;
    struct addr local;
    unsigned worker; /* whose it was, of a listener */
    struct socket_past past;
    int fd; /* -1: taken */
};

struct left {
    struct left_socket *sockets;
    size_t count, cap;
    bool sorted;
    uint32_t listeners, relayed; /* taken */
};

/* Has it from now on, but where memory is short: false. */
bool left_add(struct left *l, const struct left_socket *s);

/* The one of a relayed address, -1: there is none. */
int left_take(struct left *l, enum left_kind kind, const struct addr *local,
              struct socket_past *past);

/* Those of a listener, one for each of n workers; false where they are not so many: then those that
 * there are are closed, and the address is free. */
bool left_take_group(struct left *l, enum left_kind kind, const struct addr *local, unsigned n,
                     int fds[], struct socket_past pasts[]);

/* Closes those that nobody took: how many. */
uint32_t left_end(struct left *l);

#endif
