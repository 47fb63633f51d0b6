/*
 * How far a decision of Erlang's reaches: requests of this session that are signed with this key,
 * in this name, on this listener, until this time, may be answered without asking again. What is
 * asked for in them is granted.c's to judge.
 */
#ifndef MEERKAT_GRANT_H
#define MEERKAT_GRANT_H

#include "base.h"

enum {
    GRANT_KEY_MAX = 32,
    GRANT_NAMES_LEN = 16,
    GRANT_SOFTWARE_MAX = 127,
    GRANT_DUE = 16, /* so many answers may pile up before Erlang takes them up */
};

struct grant {
    uint8_t key[GRANT_KEY_MAX]; /* of the HMAC that signs requests and answers */
    /* The first half of SHA-256 over USERNAME, USERHASH, REALM, PASSWORD-ALGORITHM and
     * PASSWORD-ALGORITHMS, in this order: of each a byte 0 where the request has none; else a byte
     * 1, the length in two bytes, the value. */
    uint8_t names[GRANT_NAMES_LEN];
    uint32_t until_s; /* Unix time; the last second in which it holds */
    uint32_t epoch;   /* of the configuration it was made under */
    uint32_t listener;
    uint32_t default_s, max_s; /* lifetimes of a Refresh */
    uint16_t max_peers;        /* permissions, and channels */
    uint8_t key_len;
    uint8_t answered : 6; /* since Erlang was told that it is time to take them up */
    bool sha256 : 1;      /* answers bear MESSAGE-INTEGRITY-SHA256 */
    bool ends : 1;        /* no lifetime reaches beyond until_s */
};
_Static_assert(sizeof(struct grant) == 72, "each session has one");

#endif
