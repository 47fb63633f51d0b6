/*
 * The packets of an allocation as blocks of a pcapng file (docs/design/seeing.md), of which each
 * stands in an IP and a UDP header of ours: link type LINKTYPE_RAW, interface 0 the client's side
 * and interface 1 the peers'. What stands in the file before them, Erlang has written.
 *
 * Belongs to the worker of its session, and never waits: where the file is not written fast enough,
 * packets are missing, and are counted.
 */
#ifndef MEERKAT_CAPTURE_H
#define MEERKAT_CAPTURE_H

#include "addr.h"
#include "spool.h"

enum { CAPTURES_MAX = 8 }; /* of a worker */
enum capture_side { CAPTURE_CLIENT = 0, CAPTURE_PEER = 1 };

struct capture {
    struct spool *spool;
    uint64_t until;     /* whoever captures says again that he does, or it ends */
    uint64_t bytes_max; /* of the file, from its first byte on */
    uint64_t bytes;     /* with what was in it */
    uint64_t packets, missed;
    bool payload; /* else headers only */
    bool full;    /* there is no room up to bytes_max any more */
};

/* A packet. What there is of it in two pieces, the first maybe empty; of the second only `kept`
 * bytes go into the file. */
struct capture_packet {
    enum capture_side side;
    bool inbound;
    const struct addr *from, *to;
    const uint8_t *head;
    size_t head_len;
    const uint8_t *data;
    size_t len, kept;
    const char *comment;
};

/* Into the file, which has bytes already. NULL without memory or a thread. */
struct capture *capture_begin(const char *path, uint64_t bytes, uint64_t bytes_max, bool payload);
/* The file ends with a block that says how many packets are missing: so it is known to be whole. */
void capture_end(struct capture *c);

void capture_put(struct capture *c, const struct capture_packet *p);

#endif
