/*
 * Any bytes as the header of a proxy, and in front of every piece of them: a verdict once given
 * does not change with what comes behind, and what is told can be written and read again.
 */
#include "proxy.h"

#include "fuzz.h"

static enum proxy_result read_exact(const uint8_t *data, size_t len, struct proxy_header *h)
{
    uint8_t *copy = malloc(len ? len : 1); /* so that a byte too far is seen */
    if (!copy)
        abort();
    if (len)
        memcpy(copy, data, len);
    enum proxy_result r = proxy_read(copy, len, h);
    struct proxy_header as_datagram;
    FUZZ_ASSERT(!proxy_read_datagram(copy, len, &as_datagram) || r == PROXY_WHOLE);
    free(copy);
    return r;
}

static void check_told(const struct proxy_header *h)
{
    uint8_t out[PROXY_BUILT_MAX];
    struct proxy_header again;
    FUZZ_ASSERT(h->client.port != 0);
    size_t len = proxy_build(out, &h->client, &h->server);
    FUZZ_ASSERT(proxy_read(out, len, &again) == PROXY_WHOLE && again.len == len);
    FUZZ_ASSERT(again.announces && addr_equal(&again.client, &h->client) &&
                addr_equal(&again.server, &h->server));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header h, part;
    enum proxy_result all = read_exact(data, size, &h), r;
    if (all == PROXY_WHOLE) {
        FUZZ_ASSERT(h.len <= size && h.len <= PROXY_HEADER_MAX);
        FUZZ_ASSERT(proxy_seems(data, size));
        if (h.announces)
            check_told(&h);
    }
    for (size_t n = 0; n < size; n += 1 + n / 16) {
        r = read_exact(data, n, &part);
        FUZZ_ASSERT(r == PROXY_MORE || r == all);
        FUZZ_ASSERT(r != PROXY_WHOLE || part.len == h.len);
    }
    return 0;
}
