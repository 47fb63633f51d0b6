/*
 * Connections of clients that another relay program has left to this one, each with what was read
 * of it and what waits to be sent, until the worker that had it there takes it. Belongs to the
 * control thread, and each one to its worker from then on.
 */
#ifndef MEERKAT_LEFT_CONNS_H
#define MEERKAT_LEFT_CONNS_H

#include "frames.h"

struct left_conn {
    int fd;
    struct ctl_socket told;
    struct frames waiting; /* WAITING, as they came */
};

struct left_conns {
    struct left_conn **all; /* NULL where one was taken */
    size_t count, cap;
    uint32_t taken;
};

/* Has it from now on, but where memory is short: false. */
bool left_conns_add(struct left_conns *l, const struct ctl_socket *told, int fd);
/* A frame WAITING of the one that was added last; false without memory. */
bool left_conns_wait(struct left_conns *l, const uint8_t *frame, size_t len);

/* The next of those that came by a listener, for whoever calls; NULL when there is none left. */
struct left_conn *left_conns_take(struct left_conns *l, uint32_t listener, size_t *at);

/* Ends one: closes what it has still. */
void left_conn_end(struct left_conn *c);
/* Those that nobody took: how many. */
uint32_t left_conns_end(struct left_conns *l);

#endif
