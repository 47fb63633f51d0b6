/*
 * DTLS associations of clients as a worker has them, by 5-tuple. A client that starts over has two
 * for a while: the one that stands, and the one whose handshake is under way. Belongs to one
 * worker, but for what is with a handshake thread. Sends nothing by itself.
 */
#ifndef MEERKAT_ASSOCIATION_H
#define MEERKAT_ASSOCIATION_H

#include "dtls_hello.h"
#include "slab.h"
#include "step.h"
#include "timer.h"
#include "transport.h"

struct association {
    struct way_end end;
    struct table_node by_tuple;
    struct flow flow; /* its own */
    struct way below; /* held: that of UDP, by which its datagrams come and go */
    struct timer timer;
    struct tls_session *tls;         /* NULL: the handshake is under way, and step has it */
    struct step *step;               /* NULL when that is done */
    struct step_queue waiting;       /* for the next step, while one is being taken */
    uint8_t random[DTLS_RANDOM_LEN]; /* of its ClientHello */
    uint64_t heard;  /* when the last message came; of the handshake, its beginning */
    uint64_t remind; /* when the handshake's next step without a datagram is due */
    uint8_t sealed;  /* datagrams of the handshake so far that began encrypted */
    bool stepping;   /* a handshake thread has the step */
    bool crowded;    /* counts among those without allocation */
    bool spoken;     /* a message came */
    bool resting;    /* its memory for traffic is given back */
    bool broken;     /* OpenSSL failed: it must go */
};

struct associations {
    struct slab slab;
    struct table by_tuple;
    uint8_t cookie_key[32];
    uint8_t *net; /* DTLS_STEP_MAX bytes, for the length of a call */
};

/* False without address space. */
bool associations_init(struct associations *t, uint32_t max, const void *secret, size_t secret_len);
/* All that are left are freed: no handshake thread runs any more. */
void associations_destroy(struct associations *t);

/* With its 5-tuple and nothing else; NULL when there are too many. */
struct association *association_create(struct associations *t, const struct flow *f);
void association_free(struct associations *t, struct association *a);

/* The one that stands, and the one whose handshake is under way; NULL: there is none. */
struct association *association_find(const struct associations *t, const struct flow *f,
                                     struct association **shaking);

#endif
