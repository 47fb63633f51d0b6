/*
 * What is kept of an allocation that somebody looks at (docs/design/seeing.md): to and from which
 * peers which protocols go, each source of RTP as it arrives here, and whom the packets were for
 * or from that were dropped last. Counts from when it began, and has a size that does not grow.
 *
 * Belongs to the worker of its session. Sends nothing.
 */
#ifndef MEERKAT_LOOK_H
#define MEERKAT_LOOK_H

#include "addr.h"
#include "capture.h"
#include "far_end.h"
#include "media.h"

enum {
    LOOK_FLOWS = 16,   /* peers */
    LOOK_STREAMS = 24, /* sources of RTP, of both sides */
    SIGHTS_MAX = 1024, /* of a worker */
};

/* One direction of what goes between client and a peer; in 0 until something does. */
struct look_side {
    uint64_t first, last;
    uint64_t bytes;
    uint64_t packets[MEDIA_KINDS];
    uint32_t ice[ICE_ERROR + 1]; /* by enum ice_check */
    uint8_t dtls;                /* DTLS_SAID_... */
};

struct look_flow {
    struct addr peer;
    struct look_side side[2]; /* by enum direction: from the client, from the peer */
};

struct look_stream {
    struct rtp_stream rtp;
    uint8_t direction;
    uint8_t flow; /* its place in flows */
};

/* The last one of a reason. */
struct look_drop {
    struct addr peer; /* none where the packet named none */
    uint16_t channel; /* 0 likewise */
    uint64_t at;      /* 0: there was none */
};

struct sight {
    uint64_t until; /* whoever looks says again that he does, or it ends */
    uint64_t began;
    struct capture *capture; /* NULL: nobody keeps its packets */
    unsigned flow_count, stream_count;
    uint64_t flows_missed, streams_missed; /* packets for which there was no place */
    struct look_flow flows[LOOK_FLOWS];
    struct look_stream streams[LOOK_STREAMS];
    struct look_drop drops[SESSION_DROPS]; /* by reason, as in struct session */
};

/* NULL without memory. */
struct sight *look_begin(uint64_t now);
void look_free(struct sight *l);

/* A packet that is relayed, or would be if there were bandwidth left. direction: enum direction. */
void look_packet(struct sight *l, unsigned direction, const struct addr *peer, const uint8_t *data,
                 size_t len, uint64_t now);

/* One that was dropped; peer may be NULL, channel 0. */
void look_drop(struct sight *l, unsigned reason, const struct addr *peer, uint16_t channel,
               uint64_t now);

#endif
