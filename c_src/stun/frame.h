/*
 * Where messages begin and end on a stream (RFC 8489 6.2.2, RFC 8656 12.5): STUN and ChannelData
 * follow each other, each padded to 4 bytes. Looks at the first bytes of what is there and says how
 * long the frame is; keeps nothing, copies nothing.
 *
 * A stream that cannot be framed is lost: nobody can say where its next message begins. So what
 * looks wrong in a header is an end, not something to skip.
 */
#ifndef MEERKAT_FRAME_H
#define MEERKAT_FRAME_H

#include "stun.h"

enum {
    FRAME_HEADER_LEN = 4,      /* so much tells how long a frame is */
    FRAME_CHANNEL_MAX = 65507, /* a longer payload fits no datagram */
    FRAME_MAX = STUN_LEN_MAX,  /* of any frame, padding included */
};

enum frame_verdict {
    FRAME_MORE,  /* the rest has not come yet */
    FRAME_WHOLE, /* all of it is there */
    FRAME_BAD,   /* no such frame exists: close */
};

struct frame {
    size_t len;  /* of the message */
    size_t size; /* with its padding. With FRAME_MORE: so much must be there to know more */
};

/* Of the frame that starts at data. Channel numbers above channel_max are nobody's. *out is
 * untouched with FRAME_BAD. Never asks for more than FRAME_MAX bytes. */
enum frame_verdict frame_next(const uint8_t *data, size_t len, uint16_t channel_max,
                              struct frame *out);

/* A peer's payload in a message to a client. */
struct frame_media {
    size_t len;     /* of the message */
    size_t payload; /* of the peer's datagram */
};

/* What a message to a client carries from a peer, as ChannelData or a Data indication; by its first
 * bytes, of which more than len are not looked at. False where it carries nothing. */
bool frame_carries(const uint8_t *start, size_t len, struct frame_media *out);

/* Bytes of padding a message of this length has on a stream. */
static inline size_t frame_padding(size_t len)
{
    return -len & 3;
}

#endif
