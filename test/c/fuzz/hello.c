/*
 * Any bytes as a ClientHello, in pieces and as records of another size: the verdict is the same
 * however it arrives, and a name is one that may be looked up.
 */
#include "hello.h"

#include "bytes.h"
#include "fuzz.h"

static uint8_t scratch[HELLO_MAX];

static void check_name(const struct hello *h)
{
    FUZZ_ASSERT(h->name_len <= HELLO_NAME_MAX && strlen(h->name) == h->name_len);
    for (const char *p = h->name; *p; p++)
        FUZZ_ASSERT((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' ||
                    *p == '.' || *p == '_');
    FUZZ_ASSERT(h->offers || !h->offers_ours);
}

static enum hello_result read_exact(const uint8_t *data, size_t len, struct hello *h)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        abort();
    if (len)
        memcpy(copy, data, len);
    enum hello_result r = hello_read(copy, len, scratch, h);
    free(copy);
    check_name(h);
    return r;
}

static bool same(const struct hello *a, const struct hello *b)
{
    return strcmp(a->name, b->name) == 0 && a->offers == b->offers &&
           a->offers_ours == b->offers_ours;
}

/* The input as the message itself, in records of step + 1 bytes. */
static enum hello_result in_records(const uint8_t *data, size_t size, size_t step, struct hello *h)
{
    static uint8_t net[2 * HELLO_MAX];
    struct wbytes out = wbytes_of(net, sizeof(net));
    for (size_t at = 0; at < size; at += step + 1) {
        size_t n = MIN(step + 1, size - at);
        wbytes_put(&out, "\x16\x03\x01", 3);
        wbytes_put16(&out, (uint16_t)n);
        wbytes_put(&out, data + at, n);
    }
    return read_exact(net, wbytes_len(&out), h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hello h, part;
    if (size < 1)
        return 0;
    size_t step = data[0];
    data++;
    size--;
    enum hello_result all = read_exact(data, size, &h), r;
    for (size_t n = 0; n < size; n += 1 + n / 16) {
        r = read_exact(data, n, &part);
        FUZZ_ASSERT(r == HELLO_MORE || r == all);
        FUZZ_ASSERT(r != HELLO_WHOLE || same(&part, &h));
    }
    if (size > 0 && size < 2000 && step > 2) {
        all = in_records(data, size, 16000, &h);
        r = in_records(data, size, step, &part);
        FUZZ_ASSERT(r == all && same(&part, &h));
    }
    return 0;
}
