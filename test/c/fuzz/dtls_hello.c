/*
 * Any bytes as the first datagram of a DTLS client: what is read of it lies in it, and what asks
 * for a cookie is no longer than it and is read as what it is.
 */
#include "dtls_hello.h"

#include "fuzz.h"

static bool within(const uint8_t *data, size_t size, const uint8_t *p, size_t len)
{
    return p >= data && p + len <= data + size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t cookie[DTLS_COOKIE_LEN] = "a cookie for nobody";
    struct dtls_hello h;
    struct dtls_record r;
    uint8_t answer[DTLS_VERIFY_LEN];
    bool record = dtls_record_read(data, size, &r);
    enum dtls_hello_verdict v = dtls_hello_read(data, size, &h);
    if (record)
        FUZZ_ASSERT(r.size <= size && r.size >= DTLS_RECORD_HEAD && r.number >> 48 == 0);
    if (v != DTLS_NO_HELLO)
        FUZZ_ASSERT(record && r.type == 22 && r.epoch == 0);
    if (v != DTLS_HELLO)
        return 0;
    FUZZ_ASSERT(within(data, size, h.random, DTLS_RANDOM_LEN));
    FUZZ_ASSERT(within(data, size, h.session, h.session_len) && h.session_len <= 32);
    FUZZ_ASSERT(within(data, size, h.cookie, h.cookie_len));
    FUZZ_ASSERT(h.size == r.size && h.number == r.number);
    dtls_verify_build(&h, cookie, answer);
    FUZZ_ASSERT(sizeof(answer) <= size);
    FUZZ_ASSERT(dtls_record_read(answer, sizeof(answer), &r) && r.size == sizeof(answer));
    FUZZ_ASSERT(r.number == h.number && load16(answer + 17) == h.sequence);
    FUZZ_ASSERT(dtls_hello_read(answer, sizeof(answer), &h) == DTLS_NO_HELLO);
    return 0;
}
