/*
 * DTLS 1.2 (RFC 6347) over the caller's own datagrams. A session is a tls_session and is freed,
 * asked why it failed and counted as one; what differs is that bytes come and go in datagrams.
 *
 * The caller has checked the cookie of a ClientHello before there is a session (hello.h): OpenSSL's
 * own way would make one for everybody who says hello, and keep what strangers send.
 */
#ifndef MEERKAT_DTLS_H
#define MEERKAT_DTLS_H

#include "tls.h"

enum {
    DTLS_PLAIN_MAX = 16384, /* bytes of a record: no longer message can be sent */
    DTLS_OVERHEAD = 64,     /* at most, of a record around them */
    DTLS_MTU = 1200,        /* datagrams of a handshake have no more: any path takes them whole */
    DTLS_STEP_MAX = 32 * 1024, /* bytes that one call below writes at most, but for dtls_write */
};

/* For a client whose ClientHello has a good cookie; thread is the number of the caller's contexts.
 * NULL without memory. */
struct tls_session *dtls_open(struct tls_store *store, unsigned thread, uint32_t now_s);

/*
 * The calls below take one datagram and append those that they have to say to *out, each behind its
 * length in two bytes (dtls_next).
 */
/* The first of all: the record with that ClientHello, or with the first fragment of it. */
enum tls_result dtls_begin(struct tls_session *s, const uint8_t *data, size_t len,
                           struct wbytes *out);
/* Whatever comes next, or nothing (len 0) when dtls_wait_ns is over: then what the client seems to
 * have lost is said again. */
enum tls_result dtls_handshake(struct tls_session *s, const uint8_t *data, size_t len,
                               struct wbytes *out);
/* How long until dtls_handshake is to be called with nothing; of the world's time. UINT64_MAX: it
 * need not be. */
uint64_t dtls_wait_ns(const struct tls_session *s);

/*
 * A datagram of a session that stands. Call it with len 0 then until it returns TLS_MORE: a
 * datagram may have several records, and each is one message. plain may be where the datagram lies.
 * Records that are forged, played again or of no use are ignored.
 */
enum tls_result dtls_read(struct tls_session *s, const uint8_t *data, size_t len, uint8_t *plain,
                          size_t cap, size_t *got, struct wbytes *out);
/* One message of at most DTLS_PLAIN_MAX bytes; *out has room for DTLS_OVERHEAD bytes more. False
 * when the session is broken. */
bool dtls_write(struct tls_session *s, const uint8_t *plain, size_t len, struct wbytes *out);
/* Gives back the memory that only traffic needs. It is taken anew with the next. */
void dtls_rest(struct tls_session *s);

/* The next datagram of what was written; false when there is none. */
static inline bool dtls_next(struct bytes *b, const uint8_t **data, size_t *len)
{
    uint16_t n;
    if (!bytes_get16(b, &n) || !bytes_take(b, n, data))
        return false;
    *len = n;
    return true;
}

#endif
