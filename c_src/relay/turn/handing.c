#include "handing.h"

#include <stdlib.h>
#include <string.h>

#include "keep.h"
#include "numbered.h"
#include "offloading.h"
#include "post.h"

enum { ONE_MAX = 256 * 1024 }; /* of one session's messages */

/* ------------------------------------------------------------------------------- standing still */

void handing_hold(struct shard *sh)
{
    io_hold(sh->io);
    sh->holding = true;
    offloading_hold(sh, true);
}

void handing_go_on(struct shard *sh)
{
    io_go_on(sh->io);
    offloading_hold(sh, false);
    sh->holding = false;
}

void handing_look(struct shard *sh)
{
    if (sh->holding && io_is_still(sh->io) && post_mail(sh, MAIL_STILL, NULL, 0, NULL, 0, 0))
        sh->holding = false;
}

/* -------------------------------------------------------------------------------- what there is */

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
    if (!len && (large = malloc(ONE_MAX)))
        len = ctl_encode(f, large, ONE_MAX);
    if (len)
        put_frame(h, large ? large : small, len);
    else
        h->failed = true;
    free(large);
}

static void put_socket(struct handed *h, const struct ctl_socket *m, int fd)
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

static void put_listeners(const struct shard *sh, struct handed *h)
{
    for (size_t i = 0; i < sh->listeners_used; i++) {
        const struct listener *l = &sh->listeners[i];
        struct ctl_socket m = {.local = l->local, .worker = (uint16_t)sh->config.index};
        if (!l->in_use || l->closing)
            continue;
        m.kind = l->transport->datagrams ? LEFT_DATAGRAMS : LEFT_STREAMS;
        m.lost = l->io.lost;
        m.whole = l->io.whole;
        put_socket(h, &m, l->io.fd);
    }
}

static void put_relayed(const struct session *s, struct handed *h)
{
    for (int i = 0; i < 2; i++) {
        const struct relayed *r = &s->relayed[i];
        if (!r->open || r->io.removing)
            continue;
        struct ctl_socket m = {.kind = LEFT_RELAYED,
                               .local = r->pool->local,
                               .lost = r->io.lost,
                               .whole = r->io.whole};
        m.local.port = r->port;
        put_socket(h, &m, r->io.fd);
    }
}

/* The frames of a session, each behind its length. */
static void put_frames(struct handed *h, const uint8_t *frames, size_t len)
{
    for (size_t at = 0; at + 4 <= len; at += 4 + load32(frames + at))
        put_frame(h, frames + at + 4, load32(frames + at));
}

static void put_sessions(const struct shard *sh, struct handed *h)
{
    uint8_t *one = malloc(ONE_MAX);
    h->failed |= !one;
    for (uint32_t i = 0; one && i < sh->sessions.session_slab.touched; i++) {
        const struct session *s = keep_session_at(sh, i);
        struct wbytes w = wbytes_of(one, ONE_MAX);
        if (!s || !s->note || !session_alive(s, sh->time.now))
            continue;
        put_relayed(s, h);
        keep_put_session(sh, s, &w);
        h->failed |= w.overflow;
        put_frames(h, one, wbytes_len(&w));
    }
    free(one);
}

bool handing_hand(struct shard *sh)
{
    struct handed *h;
    if (!post_has_room(sh))
        return false;
    h = calloc(1, sizeof(*h));
    if (h) {
        put_listeners(sh, h);
        put_sessions(sh, h);
    }
    return post_mail(sh, MAIL_HANDED, &h, sizeof(h), NULL, 0, 0);
}
