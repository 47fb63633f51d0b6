/*
 * Sending by plain system calls, at once, which is rare: datagrams that the kernel refused as a
 * run, or because of an error of an earlier one, while they are still in their buffers. For every
 * backend of io.h.
 */
#ifndef MEERKAT_DIRECT_H
#define MEERKAT_DIRECT_H

#include "errqueue.h"
#include "runs.h"

/*
 * The kernel refused this run with err. ICMP errors are said to the next call, whichever it is
 * (threat X29): they are read, and the datagrams sent again. A run it does not want as one goes
 * datagram by datagram. What still fails is told by on_unsent, each.
 */
void direct_again(struct io *io, struct runs *r, struct run *run, int err, struct reports *reports);

/* What s sends from now on leaves whole or not at all, or may be cut again. The option must stand
 * while the kernel builds a packet: all that was prepared has been sent. */
void direct_keep_whole(struct io_socket *s, uint8_t family, bool whole);

#endif
