/*
 * The ring itself: what a worker's io has on io_uring, its submissions and its receive buffers. For
 * uring_send.c, uring_recv.c and uring.c (life and waiting), which stand on it; these are the only
 * files that know liburing. Knows no socket's owner and no STUN.
 *
 * A receive buffer, so that headers are added and removed without moving the payload:
 *
 *   | io_uring_recvmsg_out 16 | name 32 | control 72 | payload ...            | tail 8 |
 *                             '---- read first, then IO_HEADROOM -----'
 *
 * Its stride is no multiple of a page, so that small packets do not all meet in the same cache
 * sets; a buffer holds the largest datagram there is, and pages it never reached cost nothing.
 *
 * Sends are collected in runs, put into the ring before each submission and carry MSG_DONTWAIT, so
 * they are over when it returns: that is when buffers go back to the kernel and scratch starts
 * anew. A send that fails posts a completion all the same.
 *
 * A socket is referred to by slot and generation, never by pointer: completions may be late.
 * It goes in two steps: the receive is cancelled; its last completion closes the descriptor.
 */
#ifndef MEERKAT_RING_H
#define MEERKAT_RING_H

#include <liburing.h>

#include "deliver.h"
#include "direct.h"
#include "pace.h"

enum {
    SQ_ENTRIES = 1024,
    CQ_ENTRIES = 8192,
    BUFFERS = 512,  /* a power of two */
    REARM_MAX = 32, /* receives started again in a turn: each may use several buffers at once */
    BUFFER_GROUP = 0,
    NAME_LEN = 32, /* a sockaddr_in6, and control behind it aligned */
    CONTROL_LEN = DELIVER_CONTROL,
    PAYLOAD_MAX = 65535,
    PAYLOAD_OFFSET = sizeof(struct io_uring_recvmsg_out) + NAME_LEN + CONTROL_LEN,
    BUFFER_LEN = PAYLOAD_OFFSET + PAYLOAD_MAX,
    STRIDE = (BUFFER_LEN + IO_TAILROOM + 63) / 64 * 64 + 64 * 9,
    SCRATCH_LEN = 256 * 1024,
    QUICK_TRIES = 16,          /* of what the kernel refuses, without a pause between */
    PATIENT_TRIES = 16 + 1000, /* and with a millisecond; then it is for good */
};

_Static_assert(NAME_LEN >= sizeof(struct sockaddr_in6) && NAME_LEN % 8 == 0, "name, then cmsghdr");
_Static_assert(NAME_LEN + CONTROL_LEN >= IO_HEADROOM, "headroom comes out of name and control");
_Static_assert(STRIDE % 4096 != 0, "buffers must not all start in the same cache sets");
_Static_assert((int)SQ_ENTRIES > (int)RUNS_MAX, "a batch fits the ring");

/* user_data, from the top: operation (4 bits), and of a socket generation (18) and slot (32); of a
 * send index of the run (28) and batch (32). */
enum op { OP_NONE = 0, OP_RECV, OP_SEND, OP_CANCEL, OP_WAKE, OP_STREAMS };
enum { GEN_MASK = 0x3ffff };

static inline uint64_t tag(enum op op, uint32_t gen, uint32_t slot)
{
    return (uint64_t)op << 60 | (uint64_t)(gen & GEN_MASK) << 42 | slot;
}

static inline uint64_t tag_send(uint32_t index, uint32_t batch)
{
    return (uint64_t)OP_SEND << 60 | (uint64_t)index << 32 | batch;
}

static inline enum op tag_op(uint64_t tag)
{
    return (enum op)(tag >> 60);
}

struct slot {
    struct io_socket *socket;
    uint32_t gen;
    uint32_t next_free : 31; /* index + 1 */
    uint32_t waits : 1;      /* stands in rearm */
    unsigned refusals;       /* of its receive, in a row */
};

struct uring {
    struct io io;
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    uint8_t *buffers;
    struct msghdr recv_template;
    struct slot *slots;
    uint32_t slots_max, slots_used, free_slot;
    struct runs *runs;
    uint32_t runs_put; /* of them, in the ring */
    uint32_t batch;    /* of runs */
    struct reports reports;
    struct pace pace;
    uint8_t *scratch;
    size_t scratch_used;
    uint16_t *consumed; /* buffers to give back after the next submission */
    uint32_t consumed_count;
    uint32_t *rearm; /* slots whose receive ended and must start again, the oldest first */
    uint32_t rearm_count;
    int wake_fd;
    uint64_t wake_value;
    bool wake_armed;
    bool streams_armed; /* io.streams is polled */
    unsigned refusals;  /* turns in a row in which nothing was submitted */
    bool plain_send;    /* the kernel takes an address with IORING_OP_SEND */
};

static inline struct uring *uring_of(struct io *io)
{
    return container_of(io, struct uring, io);
}

/* An empty entry of the ring, for which others may be submitted. */
struct io_uring_sqe *ring_sqe(struct uring *u);
/* The kernel refused something that is to be tried again: after some refusals in a row the tries
 * become rarer, and in the end the program gives up, so that another may take over. */
void ring_patience(unsigned *refusals, const char *what, int err);
/* Everything in the ring goes to the kernel, without waiting. */
void ring_submit(struct uring *u);

/* Lends the kernel all receive buffers. 0 or -errno. */
int ring_register_buffers(struct uring *u);
/* Lends it again those that are used up, but for the latest `keep` of them (0 or 1). */
void ring_give_back(struct uring *u, uint32_t keep);

#endif
