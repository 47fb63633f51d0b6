#include "handed.h"

#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "numbered.h"

enum { LARGE = 256 * 1024 }; /* holds any message that is put */

void handed_free(struct handed *h)
{
    if (!h)
        return;
    free(h->bytes);
    free(h->fds);
    free(h);
}

/* Twice as much, when it is needed. */
static bool grow(void **base, size_t *cap, size_t wanted, size_t each)
{
    size_t next = MAX(*cap, (size_t)1024);
    while (next < wanted)
        next *= 2;
    if (next == *cap)
        return true;
    void *more = realloc(*base, next * each);
    if (!more)
        return false;
    *base = more;
    *cap = next;
    return true;
}

static void put_frame(struct handed *h, const uint8_t *frame, size_t len)
{
    void *bytes = h->bytes;
    size_t most = 5 + 6 * len; /* each byte may be a field */
    if (!grow(&bytes, &h->cap, h->len + most, 1)) {
        h->failed = true;
        return;
    }
    h->bytes = bytes;
    struct wbytes w = wbytes_of(h->bytes + h->len, h->cap - h->len);
    numbered_put(&w, frame, len);
    h->failed |= w.overflow;
    h->len += w.overflow ? 0 : wbytes_len(&w);
}

void handed_put(struct handed *h, const struct ctl_frame *f)
{
    uint8_t small[CTL_PLAIN_MAX];
    size_t len = ctl_encode(f, small, sizeof(small));
    uint8_t *large = NULL;
    if (!len && (large = malloc(LARGE)))
        len = ctl_encode(f, large, LARGE);
    if (len)
        put_frame(h, large ? large : small, len);
    else
        h->failed = true;
    free(large);
}

void handed_put_socket(struct handed *h, const struct ctl_socket *m, int fd)
{
    void *fds = h->fds;
    if (!grow(&fds, &h->fd_cap, h->fd_count + 1, sizeof(int))) {
        h->failed = true;
        return;
    }
    h->fds = fds;
    h->fds[h->fd_count++] = fd;
    handed_put(h, &(struct ctl_frame){.code = CTL_SOCKET, .u.socket = *m});
}

void handed_put_frames(struct handed *h, const uint8_t *frames, size_t len)
{
    struct ctl_bytes frame;
    size_t at = 0;
    while (frames_next(frames, len, &at, &frame))
        put_frame(h, frame.data, frame.len);
}
