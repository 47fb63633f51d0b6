/*
 * What the files of this room share; nobody else includes it.
 */
#ifndef MEERKAT_TLS_INSIDE_H
#define MEERKAT_TLS_INSIDE_H

#include <openssl/ssl.h>

#include "tls.h"

enum { TICKET_NAME_LEN = 16, TICKET_AES_LEN = 32, TICKET_MAC_LEN = 32 };

/* The keys of an hour (ticket.c). */
struct ticket_key {
    uint64_t hour;
    uint8_t name[TICKET_NAME_LEN];
    uint8_t aes[TICKET_AES_LEN];
    uint8_t mac[TICKET_MAC_LEN];
};

/* Of one thread, shared by its contexts. */
struct ticket_keys {
    uint8_t secret[TLS_SECRET_LEN];
    struct ticket_key at[4]; /* hour modulo 4 */
};

/* Sessions of this context seal their tickets with the keys of their thread. */
void ticket_install(SSL_CTX *ctx);

struct tls_session {
    SSL *ssl;
    struct tls_store *store; /* until the handshake is done */
    unsigned thread;
    uint32_t now_s;     /* when the handshake began, for its tickets */
    struct bytes *in;   /* the caller's, while it calls */
    struct wbytes *out; /* likewise */
    enum tls_failure failure;
    bool broken; /* nothing more may be said, not even close_notify */
};

/* A context that speaks as we want, without certificates yet; NULL without memory. */
SSL_CTX *session_context(void);

/* A thread's context for who asks for that name; NULL: for nobody. */
SSL_CTX *store_context(struct tls_store *s, unsigned thread, const char *name);
struct ticket_keys *store_ticket_keys(struct tls_store *s, unsigned thread);

#endif
