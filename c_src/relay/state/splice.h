/*
 * Connections that are passed through to a web server, as a worker has them. Nothing is kept of
 * what passes: what one side does not take yet the kernel holds on the other. Belongs to one
 * worker.
 */
#ifndef MEERKAT_SPLICE_H
#define MEERKAT_SPLICE_H

#include "addr.h"
#include "io_stream.h"
#include "slab.h"
#include "timer.h"

enum { SPLICES_MAX = 8192 }; /* of all workers together */

enum splice_side { SPLICE_CLIENT, SPLICE_WEB };

struct splice {
    struct io_stream sides[2];
    bool over[2]; /* this side says no more, and the other has been told */
    bool connected;
    bool used;
    struct addr client, server; /* whose it is, and where he connected to */
    uint64_t moved;             /* when something passed */
    struct timer timer;
};

struct splices {
    struct slab slab;
    uint8_t *bytes; /* for the length of a call: what is being passed */
};

enum { SPLICE_BYTES = 64 * 1024 };

/* False without address space. */
bool splices_init(struct splices *t);
/* Closes all that are left; nobody uses their io any more. */
void splices_destroy(struct splices *t);

/* In no io yet; NULL when there are too many. */
struct splice *splice_create(struct splices *t, int client_fd, int web_fd);
/* Closes both sides. */
void splice_free(struct splices *t, struct splice *s);

#endif
