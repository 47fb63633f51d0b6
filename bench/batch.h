/*
 * Datagrams of one size on their way out of one socket, gathered into one sendmmsg: whoever adds
 * another socket's or finds it full sends what is there. A run to one receiver may be one message
 * (UDP_SEGMENT). Knows nothing of what is in them.
 */
#ifndef BENCH_BATCH_H
#define BENCH_BATCH_H

#include "sockets.h"

enum { BATCH_SLOTS = 128 };

struct batch {
    int fd;
    unsigned stride;      /* bytes of each datagram */
    unsigned slots, used; /* datagrams there is room for, and that are waiting */
    unsigned messages;
    uint64_t unsent; /* datagrams the kernel would not take */
    uint8_t *data;
    struct mmsghdr message[BATCH_SLOTS];
    struct iovec part[BATCH_SLOTS];
    struct sockaddr_storage to[BATCH_SLOTS];
    uint8_t control[BATCH_SLOTS][SOCKET_CONTROL];
};

/* Room for `slots` datagrams of `stride` bytes each. 0 or -ENOMEM. */
int batch_open(struct batch *b, unsigned stride, unsigned slots);
void batch_close(struct batch *b);

/* So many datagrams one message can carry. */
unsigned batch_run_max(const struct batch *b);

/* Room for `count` datagrams, one behind the other, that go out as one message: from `source`
 * unless none, to `to` unless NULL (then to whom the socket is connected). */
uint8_t *batch_add(struct batch *b, int fd, unsigned count, const struct addr *source,
                   const struct addr *to);

/* Sends what was added. */
void batch_flush(struct batch *b);

#endif
