/*
 * A source is whom one can hold to account for packets: an IPv4 address or an IPv6 /64, whatever
 * the port. Here it is a number, by a hash whose key strangers do not know.
 */
#ifndef MEERKAT_SOURCE_H
#define MEERKAT_SOURCE_H

#include "addr.h"
#include "crypto.h"

enum { SOURCE_KEY_LEN = 16 };

static inline uint64_t source_hash(const uint8_t key[SOURCE_KEY_LEN], const struct addr *a)
{
    size_t prefix = a->family == ADDR_V6 ? 8 : 16; /* IPv4 ends in its four bytes */
    return crypto_siphash(key, a->ip, prefix);
}

#endif
