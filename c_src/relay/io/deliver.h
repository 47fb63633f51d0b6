/*
 * What one receive brought, handed up: where it was sent to, and, where the kernel joined several
 * datagrams of a flow (UDP_GRO), each by itself. For every backend of io.h; makes no system call.
 */
#ifndef MEERKAT_DELIVER_H
#define MEERKAT_DELIVER_H

#include "io_dgram.h"

/* Room for what a receive says besides: pktinfo of either family, UDP_GRO, SO_RXQ_OVFL. */
enum { DELIVER_CONTROL = 88 };

/* p holds data, len, from and truncated, is roomy, and dest is no address: that is filled in. Only
 * the control messages of `control` are read. */
void deliver(struct io *io, struct io_socket *s, struct io_packet *p, struct msghdr *control);

#endif
