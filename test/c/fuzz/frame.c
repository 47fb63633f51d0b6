/*
 * Any bytes as a stream, in pieces whose sizes the input chooses as well: framed in pieces and
 * framed as a whole they must come apart at the same places.
 */
#include "frame.h"

#include "fuzz.h"

enum { PLACES = 4096 };

/* Where frames end; how it ended in *last. */
static size_t whole(const uint8_t *data, size_t size, size_t *ends, enum frame_verdict *last)
{
    size_t at = 0, n = 0;
    struct frame f;
    while ((*last = frame_next(data + at, size - at, CHANNEL_MAX, &f)) == FRAME_WHOLE) {
        FUZZ_ASSERT(f.len <= f.size && f.size <= FRAME_MAX && f.size % 4 == 0);
        FUZZ_ASSERT(f.size <= size - at && f.size - f.len == frame_padding(f.len));
        at += f.size;
        if (n < PLACES)
            ends[n] = at;
        n++;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static size_t ends[PLACES];
    enum frame_verdict last, v;
    if (size < 2)
        return 0;
    uint8_t seed = data[0], step = data[1];
    data += 2;
    size -= 2;
    size_t n = whole(data, size, ends, &last), seen = 0, at = 0, there = MIN(seed, size);
    for (;;) {
        struct frame f;
        v = frame_next(data + at, there - at, CHANNEL_MAX, &f);
        if (v == FRAME_WHOLE) {
            at += f.size;
            FUZZ_ASSERT(seen < n && (seen >= PLACES || ends[seen] == at));
            seen++;
        } else if (v == FRAME_BAD || there == size) {
            break;
        } else {
            FUZZ_ASSERT(f.size > there - at && f.size <= FRAME_MAX);
            there = MIN(there + 1 + step, size);
        }
    }
    FUZZ_ASSERT(seen == n && v == last);
    return 0;
}
