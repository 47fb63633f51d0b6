/*
 * The client's side of TURN (RFC 8656) with long-term credentials (RFC 8489 9.2): requests into
 * bytes, answers into what they change. One transaction of a client at a time. Opens no socket and
 * reads no clock; MD5 keys and MESSAGE-INTEGRITY, as every server takes them.
 */
#ifndef BENCH_TURN_H
#define BENCH_TURN_H

#include "stun.h"

/* STEP_BINDING and STEP_CHALLENGE are what strangers ask: a Binding, and an Allocate without
 * credentials, for which 401 with a nonce is the good answer. */
enum turn_step {
    STEP_ALLOCATE,
    STEP_CHANNEL,
    STEP_PERMISSION,
    STEP_REFRESH,
    STEP_DELETE,
    STEP_BINDING,
    STEP_CHALLENGE,
    STEPS
};

/* What came of a request: a STUN error code (300 to 699), or one of these. */
enum {
    TURN_AGAIN = -1, /* another request is needed: 401 or 438 told how to sign it */
    TURN_WELL = 0,
    TURN_NO_ANSWER = 1,  /* after all retransmissions */
    TURN_REFUSED = 2,    /* ICMP: nobody listens there */
    TURN_BAD_ANSWER = 3, /* unsigned, wrongly signed, or what must be in it is not */
    TURN_TOO_LONG = 4,   /* realm, nonce or request larger than anybody's */
    TURN_CODES = 700,
};

enum { REALM_MAX = 256, NONCE_MAX = 256, TURN_REQUEST_MAX = 1100, TURN_LIFETIME_S = 600 };

/* One user; the key is made anew when the server names another realm. */
struct turn_login {
    const char *user, *password;
    char realm[REALM_MAX];
    size_t realm_len; /* 0: not known yet */
    uint8_t key[STUN_KEY_MD5_LEN];
};

struct turn_client {
    uint32_t index; /* stands in each transaction id: answers find their client by it */
    int fd;
    struct addr source;  /* of a shared socket, else none */
    struct addr relayed; /* by the family asked for */
    bool allocated;
    bool owns_fd;
    int code; /* of the step that ended the last plan */
    uint32_t lifetime_s;

    const enum turn_step *plan; /* what is still to do, the present step first; ends with STEPS */
    unsigned channel;           /* how many are bound */
    bool waiting;               /* for an answer */
    unsigned active_at;         /* in the fleet's list of those who wait */
    unsigned challenges, sends;
    uint64_t began, deadline;
    uint8_t txid[STUN_TXID_LEN];
    uint8_t nonce[NONCE_MAX];
    uint16_t nonce_len, request_len;
    uint8_t request[TURN_REQUEST_MAX];
};

/* Builds the request of the plan's present step, with a new transaction id; `peers` are those the
 * channels are for, family 4, 6 or 0. TURN_WELL, or TURN_TOO_LONG. */
int turn_request(const struct turn_login *login, struct turn_client *c, const struct addr *peers,
                 unsigned family);

/* Does this answer belong to the request under way? */
bool turn_is_answer(const struct turn_client *c, const struct stun_view *v);

/* Takes in the answer: TURN_WELL, TURN_AGAIN or why the step failed. */
int turn_answer(struct turn_login *login, struct turn_client *c, const struct stun_view *v);

const char *turn_step_name(enum turn_step step);

/* "486 Allocation Quota Reached", "no answer", …; buf of at least 64 bytes. */
const char *turn_code_text(int code, char *buf, size_t size);

#endif
