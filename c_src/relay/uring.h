/*
 * The inside of io.h on io_uring, for uring.c (life and waiting), uring_recv.c and uring_send.c;
 * nobody else includes it. These are the only files that know liburing; they know no STUN.
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
#ifndef MEERKAT_URING_H
#define MEERKAT_URING_H

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
};

_Static_assert(NAME_LEN >= sizeof(struct sockaddr_in6) && NAME_LEN % 8 == 0, "name, then cmsghdr");
_Static_assert(NAME_LEN + CONTROL_LEN >= IO_HEADROOM, "headroom comes out of name and control");
_Static_assert(STRIDE % 4096 != 0, "buffers must not all start in the same cache sets");
_Static_assert((int)SQ_ENTRIES > (int)RUNS_MAX, "a batch fits the ring");

/* user_data, from the top: operation (4 bits), and of a socket generation (18) and slot (32); of a
 * send index of the run (28) and batch (32). */
enum op { OP_NONE = 0, OP_RECV, OP_SEND, OP_CANCEL, OP_WAKE };
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
    bool plain_send; /* the kernel takes an address with IORING_OP_SEND (6.1) */
};

static inline struct uring *uring_of(struct io *io)
{
    return container_of(io, struct uring, io);
}

/* ------------------------------------------------------------------------------- uring_send.c */

/* An empty entry of the ring, for which others may be submitted. */
struct io_uring_sqe *uring_sqe(struct uring *u);
void uring_send(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                size_t len, const struct addr *to, const struct addr *from, unsigned flags);
uint8_t *uring_scratch(struct io *io, size_t len);
/* Puts what was collected into the ring. */
void uring_put_runs(struct uring *u);
/* After a submission that left nothing behind: sends again what failed; then buffers, but for the
 * latest `keep` of them, and all that sends needed are free. */
void uring_settle(struct uring *u, uint32_t keep);
/* Both, with a submission between. */
void uring_flush(struct uring *u, uint32_t keep);
/* Likewise while a packet is being handled: its buffer stays ours. */
void uring_flush_now(struct uring *u);

/* ------------------------------------------------------------------------------- uring_recv.c */

int uring_register_buffers(struct uring *u);
void uring_give_back(struct uring *u, uint32_t keep);
int uring_add(struct io *io, struct io_socket *s);
void uring_remove(struct io *io, struct io_socket *s);
void uring_rearm(struct uring *u);
/* Completions of a receive and of its cancellation. */
void uring_on_recv(struct uring *u, const struct io_uring_cqe *cqe);
void uring_on_cancel(struct uring *u, const struct io_uring_cqe *cqe);

#endif
