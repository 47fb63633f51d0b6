#include "frames.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH = 4 };

bool frames_add(struct frames *f, const uint8_t *frame, size_t len)
{
    if (f->len + LENGTH + len > f->cap) {
        size_t cap = 2 * f->cap + LENGTH + len;
        uint8_t *more = realloc(f->bytes, cap);
        if (!more)
            return false;
        f->bytes = more;
        f->cap = cap;
    }
    store32(f->bytes + f->len, (uint32_t)len);
    memcpy(f->bytes + f->len + LENGTH, frame, len);
    f->len += LENGTH + len;
    return true;
}

bool frames_next(const uint8_t *bytes, size_t len, size_t *at, struct ctl_bytes *frame)
{
    if (*at + LENGTH > len || load32(bytes + *at) > len - *at - LENGTH)
        return false;
    *frame = ctl_bytes_of(bytes + *at + LENGTH, load32(bytes + *at));
    *at += LENGTH + frame->len;
    return true;
}

void frames_drop(struct frames *f)
{
    free(f->bytes);
    *f = (struct frames){0};
}
