/*
 * Opening UDP sockets: the one for a relayed address, and the group of listening sockets among
 * which the kernel spreads clients. Called by the control thread; knows neither rings nor sessions.
 */
#ifndef MEERKAT_SOCKET_H
#define MEERKAT_SOCKET_H

#include "addr.h"

enum { WORKERS_MAX = 64 };

/* A nonblocking socket bound to exactly a; or -errno. */
int socket_open_relayed(const struct addr *a, uint32_t receive_buffer);

/* Whether what is sent from now on may be fragmented, here or on its way. 0 or -errno. */
int socket_dont_fragment(int fd, uint8_t family, bool on);

/*
 * Binds n sockets to *local (port 0: any, filled in) and makes the kernel hand every datagram of
 * one client to socket number socket_spread(client, n). None receives before all stand.
 * 0, or -errno with nothing left open; -EADDRINUSE also when others share the port by SO_REUSEPORT.
 */
int socket_open_group(struct addr *local, unsigned n, uint32_t receive_buffer, int fds[]);

/* The same choice as the kernel's. */
unsigned socket_spread(const struct addr *client, unsigned n);

#endif
