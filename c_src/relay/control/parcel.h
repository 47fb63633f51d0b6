/*
 * Bytes and descriptors from one relay program to the next, over a socket that both trust: the
 * bytes in a memory file, and descriptors in as many messages as it takes, for the kernel takes 253
 * in one at most.
 */
#ifndef MEERKAT_PARCEL_H
#define MEERKAT_PARCEL_H

#include "base.h"

struct parcel {
    uint8_t *bytes; /* mapped */
    size_t len;
    int *fds;
    uint32_t fd_count;
};

/* Of several pieces, one after another. */
struct parcel_piece {
    const uint8_t *bytes;
    size_t len;
    const int *fds;
    size_t fd_count;
};

/* False when the other side does not take it; it may have got a part then. */
bool parcel_send(int fd, const struct parcel_piece pieces[], size_t n);

/* Whole, or false and nothing: the other side is gone, says something else or nothing for some
 * seconds. */
bool parcel_receive(int fd, struct parcel *out);

/* Forgets it; descriptors that are not -1 are closed. */
void parcel_end(struct parcel *p);

#endif
