/*
 * What the headers of media tell of how it arrives: which protocol a datagram is of (RFC 7983, RFC
 * 5761), and of each source of RTP what was lost before it came here, what came late or twice, how
 * evenly it came, and when it was silent. RTP's header is in clear also where its payload is not
 * (SRTP, RFC 3711 3.1), of RTCP the first eight bytes (3.4).
 *
 * Reads headers and never what is behind them. Pure: knows no session, no socket and no clock.
 */
#ifndef MEERKAT_MEDIA_H
#define MEERKAT_MEDIA_H

#include "base.h"
#include "clock.h"

enum media_kind { MEDIA_STUN, MEDIA_DTLS, MEDIA_RTP, MEDIA_RTCP, MEDIA_OTHER, MEDIA_KINDS };

/* By the first bytes. What begins as RTP or RTCP and is too short for a header is MEDIA_OTHER. */
enum media_kind media_kind(const uint8_t *data, size_t len);

/* So many bytes of a datagram are headers: all of STUN, which is nothing else; of RTP its header
 * with the sources, but not the extension, which may tell how loud somebody speaks; of RTCP what
 * SRTCP leaves in clear; of DTLS the headers of a record and of a message of a handshake; of others
 * none. */
size_t media_header_len(const uint8_t *data, size_t len);

/* Of a datagram that is MEDIA_STUN: the answers and questions of ICE (RFC 8445), else 0. */
enum ice_check { ICE_NONE, ICE_REQUEST, ICE_SUCCESS, ICE_ERROR };
enum ice_check media_ice(const uint8_t *data, size_t len);

/* Bits for what a datagram that is MEDIA_DTLS shows of a handshake. */
enum {
    DTLS_SAID_CLIENT_HELLO = 1,
    DTLS_SAID_SERVER_HELLO = 2,
    DTLS_SAID_FINISHED = 4, /* something encrypted of a handshake, or DTLS 1.3's records */
    DTLS_SAID_ALERT = 8,
    DTLS_SAID_DATA = 16,
};
uint8_t media_dtls(const uint8_t *data, size_t len);

struct rtp_header {
    uint8_t payload_type;
    uint16_t sequence;
    uint32_t timestamp, ssrc;
    size_t header_len; /* with sources and extension (RFC 3550 5.1, 5.3.1) */
};

/* False unless the whole header is there. */
bool rtp_read(struct rtp_header *h, const uint8_t *data, size_t len);

/* Whom a datagram that is MEDIA_RTCP is of. */
uint32_t rtcp_ssrc(const uint8_t *data);

/* One source as it arrives. Zero it, then rtp_begin. */
struct rtp_stream {
    uint32_t ssrc;
    uint8_t payload_type; /* of the last packet */
    bool valid;           /* two in sequence have come (RFC 3550 A.1) */
    uint16_t newest, restart_at;
    bool restart_armed;
    uint64_t window;               /* bit i: whether newest - i has come */
    uint64_t packets, bytes;       /* bytes: of whole RTP packets */
    uint64_t lost;                 /* that the window has left without them */
    uint64_t late, twice;          /* behind a later one; again */
    uint32_t bursts, run, run_max; /* of two or more lost in a row */
    uint32_t restarts;
    uint32_t rate; /* of its clock, 0: not known */
    uint32_t rate_ts;
    uint64_t rate_from;          /* where measuring that began */
    uint32_t jitter, jitter_max; /* RFC 3550 6.4.1, in timestamp units times 16 */
    bool has_transit;
    uint32_t transit;
    uint64_t first, last; /* when packets came */
    uint32_t silences;    /* of a second and more */
    uint64_t silent, silent_max;
    uint64_t rtcp;
};

void rtp_begin(struct rtp_stream *s, const struct rtp_header *h, uint64_t now);

/* One more packet of this source, of so many bytes. */
void rtp_take(struct rtp_stream *s, const struct rtp_header *h, size_t len, uint64_t now);

/* Lost so far: also what the window has room for still. */
uint64_t rtp_lost(const struct rtp_stream *s);

/* Jitter as time; 0 while the clock's rate is not known. */
uint32_t rtp_jitter_us(const struct rtp_stream *s, uint32_t jitter);

#endif
