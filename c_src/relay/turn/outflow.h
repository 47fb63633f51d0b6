/*
 * Bytes into a stream socket, those that waited first; what the kernel does not take waits in a
 * chain. Closes nothing.
 */
#ifndef MEERKAT_OUTFLOW_H
#define MEERKAT_OUTFLOW_H

#include "cells.h"

/* What waits, until the kernel takes no more: then *blocked. False when the connection is broken.
 */
bool outflow_rest(struct cells *cells, struct chain *rest, int fd, bool *blocked);

/* These bytes, behind what waits. False also without memory for what is left of them. */
bool outflow(struct cells *cells, struct chain *rest, int fd, bool *blocked, const uint8_t *data,
             size_t len);

/* Closing it from here on resets the connection, so that the other side learns that something is
 * missing. */
void outflow_break_off(int fd);

#endif
