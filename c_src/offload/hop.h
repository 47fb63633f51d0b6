/*
 * Where the kernel would send a datagram: by which interface, with which MTU, and to whom on the
 * link. Asked of the kernel each time (rtnetlink), so routes, rules and neighbours are its own.
 */
#ifndef MEERKAT_HOP_H
#define MEERKAT_HOP_H

#include "addr.h"

struct hop {
    uint32_t interface;
    uint32_t mtu;
    uint8_t from_mac[6], to_mac[6];
    bool met; /* to_mac is known to the kernel now */
};

/* A socket to ask with, of one thread; or -errno. */
int hop_open(void);

/* False where there is no route from that address of ours, it is not over Ethernet, or the kernel
 * does not tell. */
bool hop_find(int fd, const struct addr *from, const struct addr *to, struct hop *out);

#endif
