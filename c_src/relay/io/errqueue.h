/*
 * What ICMP says of datagrams a socket sent, as the kernel keeps it in the socket's error queue
 * (IP_RECVERR). Plain system calls: it is rare. Knows no ring and no session.
 */
#ifndef MEERKAT_ERRQUEUE_H
#define MEERKAT_ERRQUEUE_H

#include "io_dgram.h"

/* Read at a time, should somebody pour into it: the rest comes with the next error. */
enum { ERRQUEUE_MAX = 16 };

/* Empties the queue of fd. Returns how many of its entries came by ICMP; *n is how many there are
 * in `out`: what RFC 8656 11.5 reports, ICMPv4 types 3 and 11, ICMPv6 1 to 3; and a datagram too
 * long for our own route, as a router would say it, but without the port of its peer, which the
 * kernel does not keep. */
unsigned errqueue_read(int fd, struct io_icmp out[ERRQUEUE_MAX], unsigned *n);

/* Kept between two dispatches; what comes beyond that is only read. */
enum { REPORTS_MAX = 64 };

struct reports {
    uint32_t count;
    struct report {
        struct io_socket *socket; /* NULL: closed since */
        struct io_icmp icmp;
    } said[REPORTS_MAX];
};

/* Empties the error queue of s, to be told later: whoever hears may send. `to` is where the
 * datagram of this moment was to go, NULL if there is none. False when nothing of it came
 * by ICMP: then an error that a call has just returned is about that call's own datagram. */
bool reports_read(struct reports *r, struct io_socket *s, const struct addr *to);
/* Tells the owners. ctx is of the io's events. */
void reports_tell(struct reports *r, void *ctx);
/* The socket is closed. */
void reports_forget(struct reports *r, const struct io_socket *s);

/* May this error of a call be what ICMP said of an earlier datagram, rather than of this one? */
bool errqueue_may_hold(int err);

#endif
