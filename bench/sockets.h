/*
 * The sockets of a fleet: which address they have, how they are told apart, and the system calls
 * that carry many datagrams at once. Knows no STUN.
 */
#ifndef BENCH_SOCKETS_H
#define BENCH_SOCKETS_H

#include <sys/socket.h>

#include "fleet.h"

enum { SOCKET_BATCH = 64, SOCKET_BUFFER = 32 << 20 };

/* In epoll a socket is the client's index, or with one of these bits a peer or a shared socket. */
#define TAG_PEER   0x80000000u
#define TAG_SHARED 0x40000000u

/* The socket of a tag, or -1 when it has been closed since. */
int sockets_fd(const struct fleet *f, uint32_t tag);

/* Room for ancillary data of one message: a source address and a segment size. */
enum { SOCKET_CONTROL = 96 };

/* Puts what is wanted into a message's ancillary data: a source (unless none), a segment size
 * (unless 0). */
void socket_control(struct msghdr *m, uint8_t control[SOCKET_CONTROL], const struct addr *source,
                    unsigned segment);

/* One datagram, from `source` to `to` when there is a source, else to whom the socket is connected.
 * 0 or -errno. */
int socket_send(int fd, const struct addr *source, const struct addr *to, const void *data,
                size_t len);

/* Hands up to SOCKET_BATCH datagrams (with GRO: runs of them) to `take`, with the time they were
 * taken at. How many, or -errno. */
int socket_receive(int fd, bool gro, uint32_t tag,
                   void (*take)(void *ctx, uint32_t tag, const uint8_t *data, size_t len,
                                uint64_t now),
                   void *ctx);

#endif
