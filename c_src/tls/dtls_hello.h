/*
 * What must be known of DTLS before there is a session: which datagrams are its records, what a
 * ClientHello says, and the answer that asks for a cookie (RFC 6347 4.2.1). Pure: nothing is kept,
 * so a stranger costs nothing but the answer, which is shorter than what he sent (threat X28).
 */
#ifndef MEERKAT_DTLS_HELLO_H
#define MEERKAT_DTLS_HELLO_H

#include "bytes.h"

enum {
    DTLS_RECORD_HEAD = 13,
    DTLS_RANDOM_LEN = 32,
    DTLS_COOKIE_LEN = 20,                            /* clients keep up to 32 bytes at least */
    DTLS_VERIFY_LEN = 13 + 12 + 3 + DTLS_COOKIE_LEN, /* of the answer that asks for one */
    DTLS_HELLO_MAX = 8192, /* of a ClientHello: those with keys against quantum computers have two
                              thousand */
};

/* The first byte of a DTLS record (RFC 7983). */
static inline bool dtls_is_first(uint8_t byte)
{
    return byte >= 20 && byte < 64;
}

/* The head of the first record of a datagram. */
struct dtls_record {
    uint8_t type;
    uint16_t epoch; /* 0: in the clear */
    uint64_t number;
    size_t size; /* with the head */
};

/* False when there is no whole record of a version that is known. */
bool dtls_record_read(const uint8_t *data, size_t len, struct dtls_record *out);

/* A ClientHello, or its first fragment, as far as it is of interest. */
struct dtls_hello {
    const uint8_t *random; /* DTLS_RANDOM_LEN of them */
    const uint8_t *session, *cookie;
    size_t session_len, cookie_len;
    uint16_t sequence; /* of the message */
    uint64_t number;   /* of the record */
    size_t size;       /* of the record */
};

enum dtls_hello_verdict {
    DTLS_NO_HELLO, /* some other record */
    DTLS_HELLO,
    DTLS_BAD_HELLO, /* begins as one */
};

/* What the datagram begins with. The cookie must be in the first fragment. */
enum dtls_hello_verdict dtls_hello_read(const uint8_t *data, size_t len, struct dtls_hello *out);

/* HelloVerifyRequest, with the numbers of the ClientHello that it answers. */
void dtls_verify_build(const struct dtls_hello *h, const uint8_t cookie[DTLS_COOKIE_LEN],
                       uint8_t out[DTLS_VERIFY_LEN]);

#endif
