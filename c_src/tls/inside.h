/*
 * What the files of this room share; nobody else includes it.
 */
#ifndef MEERKAT_TLS_INSIDE_H
#define MEERKAT_TLS_INSIDE_H

#include <openssl/ssl.h>

#include "tls.h"

/* Over TCP, or datagram by datagram. */
enum tls_kind { TLS_STREAM, TLS_DATAGRAMS, TLS_KINDS };

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
    struct tls_store *store;         /* until the handshake is done */
    struct ticket_keys *ticket_keys; /* the store's, of this thread: likewise */
    unsigned thread;
    uint32_t now_s;     /* when the handshake began, for its tickets */
    struct bytes *in;   /* the caller's, while it calls */
    struct wbytes *out; /* likewise */
    enum tls_failure failure;
    enum tls_kind kind;
    bool broken; /* nothing more may be said, not even close_notify */
};

/* As tls_open, of either kind. */
struct tls_session *session_open(struct tls_store *store, unsigned thread, uint32_t now_s,
                                 enum tls_kind kind);
/* Buffers are the caller's for the length of a call and no longer. */
void session_lend(struct tls_session *s, struct bytes *in, struct wbytes *out);
/* The session is broken, and why is noted. */
enum tls_result session_fail(struct tls_session *s);
/* What OpenSSL's return value means; a failure is noted. */
enum tls_result session_result(struct tls_session *s, int ret);
/* The handshake is done: no certificate is needed any more. */
void session_let_go_of_store(struct tls_session *s);

/* ------------------------------------------------------------------------ reading certificates */

/* What is wrong; always false. */
bool why_say(char why[TLS_WHY_MAX], const char *text);
/* With what OpenSSL says. */
bool why_as_said(char why[TLS_WHY_MAX], const char *text);

/* NULL without memory. */
BIO *pem_open(const void *data, size_t len);
/* Was there nothing more to read, when nothing could be? */
bool pem_at_end(void);

/* Whose it is, for people. */
void cert_subject(const X509 *x, char *out, size_t cap);
/* Since 1970. */
int64_t cert_seconds(const ASN1_TIME *t);
/* Neither over nor to come; now_s as in tls_store_load. */
bool cert_in_time(const X509 *x, int64_t now_s, char why[TLS_WHY_MAX]);

/* Who vouches for certificates of clients (clients.c); store NULL: they are not asked for any. */
struct clients {
    X509_STORE *store;
    STACK_OF(X509_NAME) * names;
    uint8_t id[SSL_MAX_SSL_SESSION_ID_LENGTH];
    bool required;
};

/* False with what is wrong, and *bad of which file. To be unloaded in any case. */
bool clients_load(struct clients *c, const struct tls_clients *wanted, int64_t now_s, unsigned *bad,
                  char why[TLS_WHY_MAX]);
void clients_unload(struct clients *c);
/* Sessions of this context ask for certificates, if any do. False without memory. */
bool clients_install(const struct clients *c, SSL_CTX *ctx);

/* ------------------------------------------------------------------------------------ contexts */

/* A context that speaks as we want, without certificates yet; NULL without memory. */
SSL_CTX *context_make(enum tls_kind kind);

/* A thread's context for who asks for that name; NULL: for nobody. */
SSL_CTX *store_context(struct tls_store *s, unsigned thread, enum tls_kind kind, const char *name);
struct ticket_keys *store_ticket_keys(struct tls_store *s, unsigned thread);

#endif
