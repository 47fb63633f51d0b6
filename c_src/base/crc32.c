/*
 * CRC-32 of ISO 3309, eight bytes a step. Knows no STUN: FINGERPRINT's XOR is the codec's.
 *
 * The tables are made by the compiler. A CRC is linear, so a table's entry is the XOR of what
 * the set bits of its index contribute: bit 7 of the first table contributes the polynomial
 * itself, the bit below it one shift more, and each table eight shifts more than the one before.
 * A0 to H7 are those shifts.
 */
#include "crypto.h"

#define POLY     0xedb88320u
#define SHIFT(s) ((uint32_t)(s) >> 1 ^ ((uint32_t)(s)&1 ? POLY : 0))
#define EIGHT(n, s)                                                                                \
    n##0 = SHIFT(s), n##1 = SHIFT(n##0), n##2 = SHIFT(n##1), n##3 = SHIFT(n##2),                   \
    n##4 = SHIFT(n##3), n##5 = SHIFT(n##4), n##6 = SHIFT(n##5), n##7 = SHIFT(n##6)

enum crc_shift {
    EIGHT(A, 1), /* A0 = POLY */
    EIGHT(B, A7),
    EIGHT(C, B7),
    EIGHT(D, C7),
    EIGHT(E, D7),
    EIGHT(F, E7),
    EIGHT(G, F7),
    EIGHT(H, G7),
};

#define BIT(n, i, s) ((n) >> (i)&1 ? (uint32_t)(s) : 0)
#define ENTRY(t, n)                                                                                \
    (BIT(n, 7, t##0) ^ BIT(n, 6, t##1) ^ BIT(n, 5, t##2) ^ BIT(n, 4, t##3) ^ BIT(n, 3, t##4) ^     \
     BIT(n, 2, t##5) ^ BIT(n, 1, t##6) ^ BIT(n, 0, t##7))
#define ROW4(t, n)  ENTRY(t, n), ENTRY(t, n + 1), ENTRY(t, n + 2), ENTRY(t, n + 3)
#define ROW16(t, n) ROW4(t, n), ROW4(t, n + 4), ROW4(t, n + 8), ROW4(t, n + 12)
#define ROW64(t, n) ROW16(t, n), ROW16(t, n + 16), ROW16(t, n + 32), ROW16(t, n + 48)
#define ROW256(t)   ROW64(t, 0), ROW64(t, 64), ROW64(t, 128), ROW64(t, 192)

static const uint32_t table[8][256] = {
    {ROW256(A)}, {ROW256(B)}, {ROW256(C)}, {ROW256(D)},
    {ROW256(E)}, {ROW256(F)}, {ROW256(G)}, {ROW256(H)},
};

uint32_t crypto_crc32(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8)
        crc = table[7][p[0] ^ (crc & 0xff)] ^ table[6][p[1] ^ (crc >> 8 & 0xff)] ^
              table[5][p[2] ^ (crc >> 16 & 0xff)] ^ table[4][p[3] ^ crc >> 24] ^ table[3][p[4]] ^
              table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    for (; len > 0; len--, p++)
        crc = table[0][(crc ^ *p) & 0xff] ^ crc >> 8;
    return ~crc;
}
