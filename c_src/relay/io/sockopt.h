/*
 * Options of sockets, as far as who opens a socket and who sends from it both set them.
 */
#ifndef MEERKAT_SOCKOPT_H
#define MEERKAT_SOCKOPT_H

#include <stdbool.h>
#include <stdint.h>

/* 0 or -errno. */
int sockopt_set(int fd, int level, int name, int value);

/* Whether what is sent from now on may be fragmented, here or on its way. 0 or -errno. */
int sockopt_dont_fragment(int fd, uint8_t family, bool on);

/* Bytes a second that the path of a connection takes, as the kernel has seen it; 0 where it has
 * not.
 */
uint64_t sockopt_delivery_rate(int fd);

#endif
