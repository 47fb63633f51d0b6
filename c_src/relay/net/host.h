/*
 * The addresses of this machine: those of its interfaces, and where they broadcast to. They may
 * come and go, so they are read again now and then. Called by the control thread; knows no policy.
 */
#ifndef MEERKAT_HOST_H
#define MEERKAT_HOST_H

#include "addr.h"

enum { HOST_ADDRS_MAX = 256 };

struct host {
    struct addr own[HOST_ADDRS_MAX];
    uint32_t own_count;
    struct addr broadcast[HOST_ADDRS_MAX];
    uint32_t broadcast_count;
};

/* Reads them. True if they are others than before; false also where the system does not tell. */
bool host_scan(struct host *h);

#endif
