/*
 * Which of the two stands behind io.h: chosen once, before the first worker starts, by trying. It
 * knows why io_uring is refused, in words an operator can act on, and nothing of either's inside.
 */
#ifndef MEERKAT_BACKEND_H
#define MEERKAT_BACKEND_H

#include <stdio.h>

#include "io.h"

/* The values of io_backend in ctl.def. */
enum backend { BACKEND_AUTO = 0, BACKEND_IO_URING = 1, BACKEND_EPOLL = 2 };

enum { BACKEND_WHY_MAX = 192 };

/* 0 when io_uring can do all that is asked of it, tried out in the calling thread. Else -errno,
 * and why says in one line who refuses: "EPERM: ...". */
int backend_probe_uring(char why[BACKEND_WHY_MAX]);

/* The same line for an errno that a ring was refused with. */
void backend_explain(int err, char why[BACKEND_WHY_MAX]);

/* Auto is io_uring unless that is refused, of which why then speaks; otherwise why is empty. 0, or
 * -errno when io_uring is demanded and refused, with why. */
int backend_choose(enum backend wanted, enum backend *chosen, char why[BACKEND_WHY_MAX]);

/* By the thread that will use it. 0 or -errno. */
int backend_create(enum backend b, struct io **out, const struct io_events *events,
                   uint32_t sockets_max);

/* What --probe prints: one line of JSON,
 *   {"io_backend":"epoll","io_uring":{"available":false,"errno":1,"reason":"EPERM: ..."},
 *    "udp_gso":true,"udp_gro":true,"kernel":"6.1.0-13-amd64"}
 * io_backend is what auto comes to. */
void backend_print(FILE *out);

#endif
