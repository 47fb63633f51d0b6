/*
 * Handshakes, on threads of their own: half a millisecond of arithmetic each, which no packet is to
 * wait for. A connection is handed over before anything was read of it and comes back to whoever
 * handed it over, done or failed; meanwhile nobody else touches it. A handshake of DTLS, which has
 * no socket of its own, comes and goes for each step.
 */
#ifndef MEERKAT_HANDSHAKE_H
#define MEERKAT_HANDSHAKE_H

#include <time.h>

#include "posts.h"
#include "list.h"
#include "tls.h"

enum handshake_end {
    HANDSHAKE_DONE,
    HANDSHAKE_FAILED, /* tls_failure() of its session says why; the client got an alert */
    HANDSHAKE_LATE,   /* its time was over */
    HANDSHAKE_GONE,   /* the client closed */
};

/* Where connections come back to. */
struct handshake_home {
    struct posts arrived; /* of struct handshake, by its post */
    struct posts stepped; /* of struct step, likewise */
    void (*wake)(void *ctx);
    void *ctx;
};

/* Bytes on the heap. */
struct handshake_bytes {
    uint8_t *data;
    size_t len;
};

struct handshake {
    struct post post;
    struct handshake_home *home;
    int fd;                    /* nonblocking; never closed here */
    struct tls_session *tls;   /* made by handshakes_begin; the home's when it comes back */
    struct handshake_bytes in; /* what came behind the handshake; set when it comes back */
    enum handshake_end end;

    /* Of the thread. */
    struct list under_way; /* the oldest first */
    uint64_t deadline;
    struct handshake_bytes out; /* what the socket did not take */
    unsigned thread;
};

struct handshakes;

/* max: under way at a time, of all threads together; each may take timeout_ns. NULL when the system
 * refuses. */
struct handshakes *handshakes_start(unsigned threads, uint32_t max, uint64_t timeout_ns);
/* Tells the threads to end. */
void handshakes_end(struct handshakes *h);
/* What is under way comes back to nobody: descriptors and sessions are closed. False, and nothing
 * is freed, when a thread does not end until then (of CLOCK_REALTIME). */
bool handshakes_stop(struct handshakes *h, const struct timespec *until);

/* Any thread. When the last turn began of the thread whose last is longest ago: each turns once a
 * second, with nothing to do too. */
uint64_t handshakes_turned(struct handshakes *h);

/* Any thread. Takes s, whose home and fd are set; the store is held as long as it is needed.
 * False, and s is still the caller's, when too many are under way or there is no memory. */
bool handshakes_begin(struct handshakes *h, struct handshake *s, struct tls_store *store,
                      uint32_t wall_s);

/*
 * The same for handshakes that go step by step, each with what its owner brings (step.h). Enter
 * makes it one of those under way, until its owner leaves; false when there are too many.
 */
struct step;
bool handshakes_enter(struct handshakes *h, unsigned *thread);
void handshakes_leave(struct handshakes *h);
/* One step, on the step's thread. It comes back by its home, unless they are stopped before: then
 * it stays the owner's. */
void handshakes_step(struct handshakes *h, struct step *s);

/* How many are under way. */
uint32_t handshakes_under_way(struct handshakes *h);

#endif
