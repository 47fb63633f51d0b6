/*
 * One step of a DTLS handshake. Its worker has the session between two steps, and with it the
 * client's datagrams and the time; a handshake thread has it for the arithmetic. So whatever is
 * shared belongs to one of the two at any time, and nobody waits.
 */
#ifndef MEERKAT_STEP_H
#define MEERKAT_STEP_H

#include "dtls.h"
#include "posts.h"

struct handshake_home;

enum {
    STEP_WAITING = 16, /* datagrams that may wait for the next step */
    STEP_SEALED = 16,  /* those of a handshake that may begin encrypted: OpenSSL keeps 16 KB for
                          each that comes too early */
};

/* A client's datagram that waits. */
struct step_datagram {
    struct step_datagram *next;
    size_t len;
    uint8_t data[];
};

struct step_queue {
    struct step_datagram *first, **last;
    unsigned count;
};

void step_queue_init(struct step_queue *q);
/* A copy of it; false when too many wait, or without memory. */
bool step_queue_add(struct step_queue *q, const uint8_t *data, size_t len);
void step_queue_put(struct step_queue *q, struct step_datagram *d);
/* The oldest, which is the caller's to free; NULL: none. */
struct step_datagram *step_queue_take(struct step_queue *q);
void step_queue_clear(struct step_queue *q);

struct step {
    struct post post;
    struct handshake_home *home;
    void *owner; /* the owner's */
    unsigned thread;
    struct tls_store *store; /* held until there is a session */
    uint32_t wall_s;
    struct tls_session *tls; /* made by the first step */
    struct step_queue in;    /* with nothing in it: the client is reminded, where it is time */

    /* When it is back: */
    enum tls_result result; /* TLS_MORE: it goes on */
    uint8_t *out;           /* what goes to the client, as dtls.h has it; the owner's to free */
    size_t out_len;
    uint64_t wait_ns; /* so long until the next step without a datagram */
};

/* Does it; memory for what is to be sent is lent. By a handshake thread. */
void step_take(struct step *s, uint8_t *room, size_t cap);

/* Gives back what it has; not while a thread has it. */
void step_clear(struct step *s);

#endif
