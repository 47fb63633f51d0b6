/*
 * Opening sockets: that of a relayed address, UDP or TCP, and the group of listening sockets, UDP
 * or TCP, among which the kernel spreads clients. Called by the control thread, but for a
 * connection to a peer, whose port is bound already. Knows neither rings nor sessions.
 */
#ifndef MEERKAT_SOCKET_H
#define MEERKAT_SOCKET_H

#include "addr.h"

enum { WORKERS_MAX = 255 };

/* Bytes of SO_RCVBUF and SO_SNDBUF; 0 is the system's default. */
struct socket_buffers {
    uint32_t receive, send;
};

/* The same for a relayed socket, of which there may be thousands: one client's datagrams need less
 * room than those of all, and what a flood fills is taken from every UDP socket of the machine
 * (net.ipv4.udp_mem). */
enum { RELAYED_RECEIVE_MAX = 512 * 1024 };
struct socket_buffers socket_buffers_relayed(const struct socket_buffers *b);

bool socket_buffers_equal(const struct socket_buffers *a, const struct socket_buffers *b);

/* Gives an open socket buffers of these sizes, or as much as the kernel allows. */
void socket_set_buffers(int fd, const struct socket_buffers *b);

/* What the kernel makes of these (net.core.rmem_max, wmem_max). Zeros if that cannot be told. */
struct socket_buffers socket_buffers_granted(const struct socket_buffers *asked);

/* A nonblocking socket bound to exactly a; or -errno. buffers may be NULL. */
int socket_open_relayed(const struct addr *a, const struct socket_buffers *buffers);

/* A nonblocking TCP socket that listens at exactly a, where no other program does; or -errno. */
int socket_open_relayed_stream(const struct addr *a);

/* A nonblocking TCP socket on its way from the relayed address a, where one of
 * socket_open_relayed_stream listens, to a peer; or -errno. */
int socket_connect_relayed(const struct addr *a, const struct addr *peer);

/*
 * Binds n sockets of a type (SOCK_DGRAM, SOCK_STREAM) to *local (port 0: any, filled in) and makes
 * the kernel hand every datagram, or the connection, of one client to socket number
 * socket_spread(client, n). None receives before all stand. Buffers are those of datagrams; TCP
 * finds its own. Datagrams without bytes are not received.
 * 0, or -errno with nothing left open; -EADDRINUSE also when others share the port by SO_REUSEPORT.
 */
int socket_open_group(int type, struct addr *local, unsigned n,
                      const struct socket_buffers *buffers, int fds[]);

/* What the spread goes by, before the first group is opened: who does not know it cannot choose his
 * worker by choosing his port. */
enum { SPREAD_KEY_LEN = 8 };
void socket_spread_key(const uint8_t key[SPREAD_KEY_LEN]);

/* The same choice as the kernel's. */
unsigned socket_spread(const struct addr *client, unsigned n);

#endif
