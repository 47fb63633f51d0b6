/*
 * The kernel's routes to this machine itself, read by netlink (rtnetlink(7)) into a host_list, and
 * word of when they change.
 *
 * Both sockets are opened once and kept, so that a program without a descriptor left still learns
 * of a new address. Belongs to the control thread.
 */
#ifndef MEERKAT_ROUTES_H
#define MEERKAT_ROUTES_H

#include "host.h"

struct routes {
    int events; /* to be polled: something may have changed when it is readable */
    int dump;   /* for questions */
    uint32_t seq;
};

/* 0 or -errno, with nothing left open then. */
int routes_open(struct routes *r);
void routes_close(struct routes *r);

/* Takes in all events there are: may the addresses of this machine have changed? True also when
 * the kernel had more to tell than there was room for. */
bool routes_changed(struct routes *r);

/* Adds all routes of type local, anycast, broadcast and multicast to a list. 0; -EAGAIN when they
 * changed meanwhile, so that some may be missing and it is to be asked again; or another -errno. An
 * answer that does not come in time is -ETIMEDOUT. */
int routes_read(struct routes *r, struct host_list *l);

/* ---------------------------------------------------------------- what the kernel's bytes mean */

enum routes_more { ROUTES_MORE = 1 };

/* Adds what one datagram of the kernel's answer number `seq` has. ROUTES_MORE when others follow, 0
 * at the end, or -errno. *torn becomes true when the kernel says that its answer is of two times.
 */
int routes_parse(struct host_list *l, const uint8_t *data, size_t len, uint32_t seq, bool *torn);

/* Is there anything in a datagram of events that concerns our own addresses? */
bool routes_concern(const uint8_t *data, size_t len);

#endif
