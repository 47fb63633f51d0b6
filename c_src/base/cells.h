/*
 * Bytes that have to wait: cells of one size from a pool whose room is reserved at start, and
 * chains of them. Memory is touched as it is used and kept for the next; when the pool is empty,
 * whoever asks is told. Single-threaded.
 */
#ifndef MEERKAT_CELLS_H
#define MEERKAT_CELLS_H

#include <sys/uio.h>

#include "base.h"

/* A datagram of a common path with its header fits one. Not a power of two: cells must not all
 * start in the same cache sets. */
enum { CELL_SIZE = 1600, CELL_ROOM = CELL_SIZE - 24 };

struct cell {
    struct cell *next;
    uint64_t since; /* the owner's */
    uint16_t len;
    uint8_t kind; /* the owner's */
    uint8_t data[CELL_ROOM];
};

struct cells {
    uint8_t *base;
    uint32_t max, touched, live;
    struct cell *free;
};

/* False without address space. */
bool cells_init(struct cells *c, uint32_t max);
void cells_destroy(struct cells *c);

/* A cell of no particular contents, or NULL when all are out. */
struct cell *cell_take(struct cells *c);
void cell_give(struct cells *c, struct cell *cell);

/* ---------------------------------------------------------------------------------------- chain */

/* Zero is empty. */
struct chain {
    struct cell *first, *last;
    uint32_t len;
    uint16_t at; /* bytes of the first that are gone */
};

/* All of the bytes, or false and none of them. */
bool chain_add(struct cells *c, struct chain *chain, const void *data, size_t len);
/* Copies all of it, which stays. */
void chain_copy(const struct chain *chain, uint8_t *out);
/* What a system call takes: pieces, at most max of them. */
unsigned chain_pieces(const struct chain *chain, struct iovec *out, unsigned max);
/* Takes so many bytes off the beginning. */
void chain_drop(struct cells *c, struct chain *chain, size_t len);

#endif
