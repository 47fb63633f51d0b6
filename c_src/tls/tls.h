/*
 * TLS 1.2 and 1.3 over the caller's own buffers, and the certificates it is spoken with. The only
 * room that sees libssl. Knows no sockets, no STUN, no clock: bytes in, bytes out.
 *
 * A store holds certificates and never changes; who wants others loads another store. It is
 * counted: listeners, handshakes and connections hold the one they began with. OpenSSL 3 lets
 * threads that share a context wait for each other, so a store has contexts for each thread that
 * does handshakes.
 *
 * A session belongs to one thread at a time and may be handed on. OpenSSL keeps no buffer of it
 * while nothing is under way (SSL_MODE_RELEASE_BUFFERS), and never gets half a record after the
 * handshake: tls_record says how many bytes are whole.
 */
#ifndef MEERKAT_TLS_H
#define MEERKAT_TLS_H

#include "bytes.h"

enum {
    TLS_WHY_MAX = 256,    /* text of what is wrong */
    TLS_PAIRS_MAX = 16,   /* certificates of a store */
    TLS_SECRET_LEN = 32,  /* what keys of tickets are derived from */
    TLS_PLAIN_MAX = 4096, /* bytes of a record we write: what a small window takes at once */
    TLS_OVERHEAD = 64,    /* at most, of a record around them */
    TLS_RECORD_MAX = 5 + 16384 + 2048, /* of one that is read (RFC 5246 6.2.3) */
    TLS_FLIGHT_MAX = 64 * 1024,        /* what a handshake writes at once: certificates, tickets */
    TLS_ANY_TIME = -1,                 /* certificates may be over */
    TLS_CLIENT_FILES_MAX = 16,         /* with those who vouch for certificates of clients */
    TLS_CLIENT_CERT_MAX = 4096,        /* bytes of one that a client shows */
};

/* ---------------------------------------------------------------------------------------- store */

/* A certificate with those that issued it, and its key: PEM. */
struct tls_pair {
    const void *chain;
    size_t chain_len;
    const void *key;
    size_t key_len;
};

struct tls_text {
    const void *data;
    size_t len;
};

/* Whether clients are asked for a certificate, and who vouches for it: PEM. None: they are not
 * asked. Who shows one that nobody vouches for is refused, required or not. */
struct tls_clients {
    struct tls_text files[TLS_CLIENT_FILES_MAX];
    unsigned n;
    bool required;
};

/* What a store is made of. */
struct tls_wanted {
    const struct tls_pair *pairs;
    unsigned n;
    const struct tls_clients *clients; /* NULL: they are not asked for certificates */
    const uint8_t *secret;             /* TLS_SECRET_LEN bytes */
    unsigned threads;
    int64_t now_s; /* seconds since 1970, or TLS_ANY_TIME */
};

struct tls_store;

/*
 * The first pair is shown to who names nobody, or somebody unknown; the others to who asks for a
 * name of theirs (SNI). Pairs with other kinds of keys (ECDSA, RSA) for the same name are offered
 * side by side. NULL when something is wrong; why then says what, and *bad of which pair, or behind
 * those of which file of clients.
 */
struct tls_store *tls_store_load(const struct tls_wanted *wanted, unsigned *bad,
                                 char why[TLS_WHY_MAX]);
struct tls_store *tls_store_hold(struct tls_store *s);
/* The last one frees it. Harmless on NULL. */
void tls_store_release(struct tls_store *s);
/* Is there a certificate for that name? */
bool tls_store_has(const struct tls_store *s, const char *name);
/* When the first of its certificates is over; seconds since 1970. */
int64_t tls_store_not_after(const struct tls_store *s);

/* -------------------------------------------------------------------------------------- session */

struct tls_session;

enum tls_result {
    TLS_OK,
    TLS_MORE,   /* the bytes given were not enough */
    TLS_CLOSED, /* the client has said that it ends */
    TLS_FAILED, /* tls_failure says why; what was written is an alert for the client */
};

/* Why, as far as an operator can do something about it. */
enum tls_failure {
    TLS_FAIL_NONE,
    TLS_FAIL_NOT_TLS,  /* not a handshake at all */
    TLS_FAIL_VERSION,  /* older than TLS 1.2 */
    TLS_FAIL_CIPHER,   /* no cipher, group or signature in common */
    TLS_FAIL_ALPN,     /* the client wants a protocol, and none of ours */
    TLS_FAIL_REFUSED,  /* the client sent an alert: it does not trust our certificate, mostly */
    TLS_FAIL_NO_CERT,  /* the client shows no certificate, and one is required */
    TLS_FAIL_CERT,     /* nobody whom we asked for vouches for the one it shows, or it is over */
    TLS_FAIL_PROTOCOL, /* anything else: broken or tampered with */
};

/* For a connection just accepted; thread is the number of the caller's contexts. NULL without
 * memory. */
struct tls_session *tls_open(struct tls_store *store, unsigned thread, uint32_t now_s);
/* Without a word to the client; harmless on NULL. */
void tls_free(struct tls_session *s);

/*
 * The four below take bytes of the network from *in, as many as they need, and append bytes for the
 * network to *out, which must have room: TLS_FLIGHT_MAX for a handshake, TLS_RECORD_MAX otherwise;
 * for tls_write, tls_written(len).
 */
/* TLS_OK when it is done; then what is left in *in may be read from. */
enum tls_result tls_handshake(struct tls_session *s, struct bytes *in, struct wbytes *out);
/* Plain bytes, up to cap; *len of them, 0 unless TLS_OK. */
enum tls_result tls_read(struct tls_session *s, struct bytes *in, uint8_t *plain, size_t cap,
                         size_t *len, struct wbytes *out);
/* All of the plain bytes, in records of TLS_PLAIN_MAX. False when the session is broken. */
bool tls_write(struct tls_session *s, const uint8_t *plain, size_t len, struct wbytes *out);
/* close_notify; of a session of dtls.h as a datagram. */
void tls_close(struct tls_session *s, struct wbytes *out);

enum tls_failure tls_failure(const struct tls_session *s);

/* The certificate that the client has shown, as DER, into out unless that is NULL. Its length, at
 * most TLS_CLIENT_CERT_MAX; 0 where it has shown none. */
size_t tls_client_certificate(const struct tls_session *s, uint8_t *out);

/* Bytes that so many plain ones become at most. */
static inline size_t tls_written(size_t len)
{
    return len + (len / TLS_PLAIN_MAX + 1) * TLS_OVERHEAD;
}

/* The length of the record that starts at data as far as its header is there, else 0. One that no
 * record may have is told as it stands: OpenSSL refuses it. */
static inline size_t tls_record(const uint8_t *data, size_t len)
{
    return len < 5 ? 0 : 5 + (size_t)load16(data + 3);
}

#endif
