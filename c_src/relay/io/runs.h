/*
 * What a batch sends, collected and grouped into runs: datagrams of one socket to one destination
 * from one source address, all of one size but the last, which may be shorter. The kernel takes a
 * run as one datagram and cuts it (UDP_SEGMENT), which costs about as much as a single one.
 *
 * Within a flow order holds: a datagram that does not fit ends its run, and the next run of the
 * flow stands behind. Flows may lie between one another and still form runs; order among them is
 * free. Nothing is copied but heads: data must lie still until runs_clear. Makes no system call.
 */
#ifndef MEERKAT_RUNS_H
#define MEERKAT_RUNS_H

#include <stdalign.h>
#include <sys/uio.h>

#include "io_dgram.h"

enum {
    RUNS_MAX = 512,      /* datagrams collected, and runs, at most */
    RUN_SEGMENTS = 64,   /* what kernels before 6.9 take */
    RUN_BYTES = 65507,   /* the largest payload of UDP over IPv4 */
    RUN_CONTROL = 64,    /* pktinfo of either family and UDP_SEGMENT */
    RUNS_BUCKETS = 256,  /* a power of two */
    RUNS_REFUSED = 64,   /* destinations remembered, a power of two */
    RUNS_REFUSED_S = 60, /* for so long */
};

struct outgoing {
    const uint8_t *data;
    uint32_t len;  /* without the head */
    uint16_t next; /* of its run: index + 1, 0 at the end */
    uint8_t head_len;
    uint8_t head[IO_HEAD_LEN];
};

struct run {
    struct io_socket *socket;
    struct addr to;
    struct addr from; /* no address: left to the kernel */
    uint32_t size;    /* of each segment, heads included */
    uint32_t bytes;   /* of all */
    uint16_t first, last, count;
    bool open; /* may grow */
    socklen_t name_len;
    struct sockaddr_storage name; /* `to` as the kernel has it */
    struct msghdr msg;            /* made by runs_message */
    alignas(struct cmsghdr) uint8_t control[RUN_CONTROL];
};

/* A destination that takes no segments of this size or more. */
struct refusal {
    uint8_t ip[16];
    uint32_t size;
    uint64_t until;
};

struct runs {
    uint32_t datagrams, count, iovecs;
    uint32_t refusals;
    uint16_t buckets[RUNS_BUCKETS]; /* the latest run of a flow: index + 1 */
    struct refusal refused[RUNS_REFUSED];
    struct outgoing out[RUNS_MAX];
    struct run runs[RUNS_MAX];
    struct iovec iov[2 * RUNS_MAX];
};

static inline bool runs_full(const struct runs *r)
{
    return r->datagrams == RUNS_MAX;
}

/* Adds a datagram; as io_send and io_send_headed (head NULL without). There must be room. The run
 * it went to, which may grow still. */
struct run *runs_add(struct runs *r, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                     size_t len, const struct addr *to, const struct addr *from);

/* One datagram in one piece, from wherever the kernel likes: needs no struct msghdr. */
static inline bool run_is_plain(const struct runs *r, const struct run *run)
{
    return run->count == 1 && run->from.family == ADDR_NONE && r->out[run->first].head_len == 0;
}

/* What sendmsg takes; good until runs_clear. Once for each run. */
const struct msghdr *runs_message(struct runs *r, struct run *run);

/* The same for one datagram of a run alone, in memory of the caller's. */
struct run_single {
    struct msghdr msg;
    struct iovec iov[2];
    alignas(struct cmsghdr) uint8_t control[RUN_CONTROL];
};
void runs_single(struct runs *r, struct run *run, uint16_t index, struct run_single *out);

/* Was it the run that the kernel did not want (a segment too large for the path, a device or a
 * kernel without segmentation)? Then it is remembered of the destination, and segments of that
 * size are sent to it one by one for a while: runs_add does not group them. */
bool runs_refuse(struct runs *r, const struct run *run, int err);

/* A run goes to the kernel. */
static inline void run_count(struct io_counts *counts, const struct run *run)
{
    counts->gso_runs += run->count > 1;
    counts->gso_datagrams += run->count > 1 ? run->count : 0;
}

/* No run there is grows any more. */
void runs_seal(struct runs *r);

/* All were sent. */
void runs_clear(struct runs *r);

#endif
