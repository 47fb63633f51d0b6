/*
 * io.h on epoll, for where io_uring is refused: recvmmsg into buffers with room around the payload,
 * sends as plain system calls, one for each run. Knows no STUN.
 *
 * Readiness is edge-triggered: a socket is read until it is empty or has had its share of a turn,
 * and then is on our own list for the next one, so the kernel need not look at each again that has
 * just been emptied. A turn takes datagrams of as many sockets as there are buffers; when these run
 * out, what was sent from them goes, and they start anew. Buffers belong to the turn, not to
 * sockets; pages no datagram reached cost nothing.
 *
 * A socket that is removed is closed at the end of a dispatch, when all the kernel told of it has
 * been read: so pointers do, where the other backend needs generations.
 */
#include "epoll.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "deliver.h"
#include "direct.h"
#include "io_stream.h"
#include "log.h"
#include "pace.h"
#include "memory.h"

enum {
    EVENTS = 256,        /* sockets told of at a time */
    SHARE = PACE_PLENTY, /* datagrams of a socket in a turn, as many as io_uring gives one */
    PLENTY = 128,        /* datagrams of a turn, before those who had their share have to wait */
    BUFFERS = 256,       /* of all sockets before sends must go */
    PAYLOAD_MAX = 65535,
    STRIDE = (IO_HEADROOM + PAYLOAD_MAX + IO_TAILROOM + 63) / 64 * 64 + 64 * 9,
    SCRATCH_LEN = 256 * 1024,
    TRIES = 4, /* of a receive that ICMP errors of earlier sends end */
};

_Static_assert(STRIDE % 4096 != 0, "buffers must not all start in the same cache sets");

/* What a receive writes besides the payload. */
struct envelope {
    struct sockaddr_in6 name;
    struct iovec iov;
    alignas(struct cmsghdr) uint8_t control[DELIVER_CONTROL];
};

struct poller {
    struct io io;
    int epoll_fd, wake_fd;
    struct io_socket **sockets; /* at their slots */
    uint32_t sockets_max, socket_count;
    struct io_socket **ready; /* those that may have more than their last share: `armed` */
    uint32_t ready_count;
    struct io_socket **leaving;
    uint32_t leaving_count;
    struct epoll_event events[EVENTS];
    int event_count;
    uint8_t *buffers;
    uint32_t buffers_used;
    struct mmsghdr headers[BUFFERS];
    struct envelope envelopes[BUFFERS];
    struct runs *runs;
    struct reports reports;
    struct pace pace;
    uint32_t brought; /* datagrams of this turn, or the last */
    uint8_t *scratch;
    size_t scratch_used;
};

static struct poller *poller_of(struct io *io)
{
    return container_of(io, struct poller, io);
}

/* ------------------------------------------------------------------------------------- sending */

static void send_run(struct poller *p, struct run *run)
{
    const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    ssize_t ret;
    if (LIKELY(run_is_plain(p->runs, run))) {
        const struct outgoing *out = &p->runs->out[run->first];
        ret = sendto(run->socket->fd, out->data, out->len, flags,
                     (const struct sockaddr *)&run->name, run->name_len);
    } else {
        ret = sendmsg(run->socket->fd, runs_message(p->runs, run), flags);
        run_count(&p->io.counts, run);
    }
    if (UNLIKELY(ret < 0))
        direct_again(&p->io, p->runs, run, errno, &p->reports);
}

static void flush(struct poller *p)
{
    for (uint32_t i = 0; i < p->runs->count; i++)
        send_run(p, &p->runs->runs[i]);
    runs_clear(p->runs);
}

/* For a datagram that finds no room, or whose socket has the option set otherwise. A function of
 * its own, so that the usual case needs no stack for it. */
COLD static void send_after_flush(struct io *io, struct io_socket *s, const uint8_t *head,
                                  const uint8_t *data, size_t len, const struct addr *to,
                                  const struct addr *from, unsigned flags)
{
    struct poller *p = poller_of(io);
    bool whole = flags & IO_DONT_FRAGMENT;
    flush(p);
    if (whole != s->whole)
        direct_keep_whole(s, to->family, whole);
    runs_add(p->runs, s, head, data, len, to, from);
}

static void epoll_send(struct io *io, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                       size_t len, const struct addr *to, const struct addr *from, unsigned flags)
{
    struct poller *p = poller_of(io);
    bool whole = flags & IO_DONT_FRAGMENT;
    if (UNLIKELY(whole != s->whole || runs_full(p->runs)))
        send_after_flush(io, s, head, data, len, to, from, flags);
    else
        runs_add(p->runs, s, head, data, len, to, from);
}

static uint8_t *epoll_scratch(struct io *io, size_t len)
{
    struct poller *p = poller_of(io);
    if (p->scratch_used + len > SCRATCH_LEN) {
        flush(p);
        p->scratch_used = 0;
    }
    uint8_t *room = p->scratch + p->scratch_used;
    p->scratch_used += (len + 15) & ~(size_t)15;
    return room;
}

/* Everything that lies in buffers has been handled: what is sent from them goes. */
static void reuse_buffers(struct poller *p)
{
    flush(p);
    p->buffers_used = 0;
    p->scratch_used = 0;
    p->io.settled++;
}

/* ----------------------------------------------------------------------------- life of sockets */

static int epoll_add(struct io *io, struct io_socket *s)
{
    struct poller *p = poller_of(io);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = s};
    if (p->socket_count == p->sockets_max)
        return -ENOSPC;
    if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) != 0)
        return -errno;
    s->removing = s->armed = false;
    s->slot = p->socket_count++;
    p->sockets[s->slot] = s;
    return 0;
}

static void epoll_remove(struct io *io, struct io_socket *s)
{
    struct poller *p = poller_of(io);
    s->removing = true;
    p->leaving[p->leaving_count++] = s;
}

static void not_ready(struct poller *p, struct io_socket *s)
{
    uint32_t i = 0;
    while (p->ready[i] != s)
        i++;
    p->ready_count--;
    memmove(p->ready + i, p->ready + i + 1, (p->ready_count - i) * sizeof(p->ready[0]));
    s->armed = false;
}

static void close_socket(struct poller *p, struct io_socket *s)
{
    if (s->armed)
        not_ready(p, s);
    reports_forget(&p->reports, s);
    struct io_socket *last = p->sockets[--p->socket_count];
    p->sockets[s->slot] = last;
    last->slot = s->slot;
    close(s->fd); /* which takes it out of the epoll as well */
    s->fd = -1;
}

static void close_leaving(struct poller *p)
{
    if (p->leaving_count)
        flush(p); /* it names descriptors */
    for (uint32_t i = 0; i < p->leaving_count; i++) {
        struct io_socket *s = p->leaving[i];
        close_socket(p, s);
        s->handler->on_closed(p->io.events.ctx, s);
    }
    p->leaving_count = 0;
}

/* ----------------------------------------------------------------------------------- receiving */

static void mark_ready(struct poller *p, struct io_socket *s)
{
    s->armed = true;
    p->ready[p->ready_count++] = s;
}

static void prepare(struct poller *p, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        p->headers[i].msg_hdr.msg_namelen = sizeof(p->envelopes[i].name);
        p->headers[i].msg_hdr.msg_controllen = DELIVER_CONTROL;
    }
}

static void received(struct poller *p, struct io_socket *s, uint32_t index)
{
    struct msghdr *msg = &p->headers[index].msg_hdr;
    struct io_packet packet = {.data = p->envelopes[index].iov.iov_base,
                               .len = p->headers[index].msg_len,
                               .truncated = (msg->msg_flags & MSG_TRUNC) != 0,
                               .roomy = true};
    if (!s->removing && addr_from_sockaddr(&packet.from, msg->msg_name, msg->msg_namelen))
        deliver(&p->io, s, &packet, msg);
}

/* How many datagrams were read; -EAGAIN when there was none. Another error is told, and is of the
 * past: the next try may succeed. */
static int read_share(struct poller *p, struct io_socket *s)
{
    int n = -1, err = 0;
    for (int tries = 0; n < 0 && err != EAGAIN && tries < TRIES; tries++) {
        n = recvmmsg(s->fd, p->headers + p->buffers_used, SHARE, MSG_DONTWAIT, NULL);
        err = n < 0 ? errno : 0;
        if (err && err != EAGAIN && s->wants_errors)
            reports_read(&p->reports, s, NULL);
        else if (err && err != EAGAIN && err != EINTR)
            p->io.events.on_trouble(p->io.events.ctx, IO_RECEIVE, err);
    }
    return n < 0 ? -err : n;
}

/* A share of what waits. Unless all of it was used there is no more: the kernel will tell. */
static void serve(struct poller *p, struct io_socket *s)
{
    if (BUFFERS - p->buffers_used < SHARE)
        reuse_buffers(p);
    int n = read_share(p, s);
    if (n == SHARE || (n < 0 && n != -EAGAIN))
        mark_ready(p, s);
    if (n <= 0)
        return;
    uint32_t first = p->buffers_used;
    p->buffers_used += (uint32_t)n;
    p->brought += (uint32_t)n;
    for (uint32_t i = first; i < p->buffers_used; i++)
        received(p, s, i);
    prepare(p, first, (uint32_t)n);
}

/* Those that had more than their share the last time. */
static void serve_ready(struct poller *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        p->ready[i]->armed = false;
        if (!p->ready[i]->removing)
            serve(p, p->ready[i]);
    }
    p->ready_count -= n;
    memmove(p->ready, p->ready + n, p->ready_count * sizeof(p->ready[0]));
}

/* Streams that are ready would be told of all the time. */
static void watch_streams(struct io *io, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = &io->streams};
    epoll_ctl(poller_of(io)->epoll_fd, EPOLL_CTL_MOD, io->streams.fd, &e);
}

/* What is ready waits on the list: the kernel tells it once. */
static void epoll_hold(struct io *io)
{
    io->held = true;
    watch_streams(io, 0);
}

static void epoll_go_on(struct io *io)
{
    io->held = false;
    watch_streams(io, EPOLLIN);
}

static bool epoll_is_still(struct io *io)
{
    return io->held;
}

static void epoll_dispatch(struct io *io)
{
    struct poller *p = poller_of(io);
    uint32_t ready = p->ready_count;
    p->brought = 0;
    for (int i = 0; i < p->event_count; i++) {
        struct io_socket *s = p->events[i].data.ptr; /* NULL: woken */
        if (p->events[i].data.ptr == &p->io.streams) {
            p->io.streams.ready = true;
            continue;
        }
        if (!s || s->removing || s->armed)
            continue;
        if (UNLIKELY(p->events[i].events & EPOLLERR) && s->wants_errors)
            reports_read(&p->reports, s, NULL);
        if (UNLIKELY(io->held))
            mark_ready(p, s);
        else
            serve(p, s);
    }
    p->event_count = 0;
    if (LIKELY(!io->held))
        serve_ready(p, ready);
    while (p->ready_count && !io->held && p->brought < PLENTY)
        serve_ready(p, p->ready_count);
    io_streams_dispatch(io);
    pace_note(&p->pace, clock_read().now / CLOCK_SPEED, p->brought);
    reports_tell(&p->reports, p->io.events.ctx);
    close_leaving(p);
}

/* ------------------------------------------------------------------------------------- waiting */

static int in_ms(uint64_t ns)
{
    uint64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return (int)MIN(ms, (uint64_t)INT_MAX);
}

static void wait_for_events(struct io *io, uint64_t timeout_ns)
{
    struct poller *p = poller_of(io);
    uint64_t timeout = clock_wait(timeout_ns);
    uint32_t sleep_ns = pace_next(&p->pace).sleep_ns;
    reuse_buffers(p);
    if ((p->ready_count && !io->held) || p->leaving_count || io_streams_hungry(io)) {
        timeout = 0;
    } else if (sleep_ns) {
        pace_sleep(sleep_ns, timeout);
        timeout = 0;
    }
    int n = epoll_wait(p->epoll_fd, p->events, EVENTS, in_ms(timeout));
    if (n < 0 && errno != EINTR)
        log_error("epoll_wait: %s", strerror(errno));
    p->event_count = MAX(n, 0);
}

/* Nobody reads the counter: edge-triggered, every write is told. */
static void epoll_wake(struct io *io)
{
    uint64_t one = 1;
    ssize_t ignored = write(poller_of(io)->wake_fd, &one, sizeof(one));
    (void)ignored;
}

/* ---------------------------------------------------------------------------- life of a poller */

static void epoll_stop(struct io *io)
{
    struct poller *p = poller_of(io);
    for (uint32_t i = 0; i < p->socket_count; i++)
        if (!p->sockets[i]->removing)
            epoll_remove(io, p->sockets[i]);
    close_leaving(p);
}

static void epoll_destroy(struct io *io)
{
    struct poller *p = poller_of(io);
    for (uint32_t i = 0; i < p->socket_count; i++)
        close(p->sockets[i]->fd);
    io_streams_close(io);
    if (p->epoll_fd >= 0)
        close(p->epoll_fd);
    if (p->wake_fd >= 0)
        close(p->wake_fd);
    memory_release(p->buffers, (size_t)BUFFERS * STRIDE);
    memory_release(p->sockets, p->sockets_max * sizeof(p->sockets[0]));
    memory_release(p->ready, 2 * (size_t)p->sockets_max * sizeof(p->ready[0]));
    memory_release(p->leaving, p->sockets_max * sizeof(p->leaving[0]));
    free(p->runs);
    free(p->scratch);
    free(p);
}

static const struct io_ops epoll_ops = {
    .stop = epoll_stop,
    .destroy = epoll_destroy,
    .wait = wait_for_events,
    .dispatch = epoll_dispatch,
    .wake = epoll_wake,
    .hold = epoll_hold,
    .go_on = epoll_go_on,
    .is_still = epoll_is_still,
};

static const struct io_dgram_ops epoll_dgram_ops = {
    .add = epoll_add,
    .remove = epoll_remove,
    .send = epoll_send,
    .scratch = epoll_scratch,
};

static int open_epoll(struct poller *p)
{
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    struct epoll_event streams = {.events = EPOLLIN, .data.ptr = &p->io.streams};
    int ret = io_streams_open(&p->io);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (ret == 0 && (p->wake_fd < 0 || p->epoll_fd < 0 ||
                     epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &wake) != 0 ||
                     epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->io.streams.fd, &streams) != 0))
        ret = -errno;
    return ret;
}

static bool take_memory(struct poller *p)
{
    p->sockets = memory_reserve(p->sockets_max * sizeof(p->sockets[0]));
    /* A socket may be put on the list again while the list is gone through. */
    p->ready = memory_reserve(2 * (size_t)p->sockets_max * sizeof(p->ready[0]));
    p->leaving = memory_reserve(p->sockets_max * sizeof(p->leaving[0]));
    p->buffers = memory_reserve((size_t)BUFFERS * STRIDE);
    p->runs = calloc(1, sizeof(*p->runs));
    p->scratch = malloc(SCRATCH_LEN);
    return p->sockets && p->ready && p->leaving && p->buffers && p->runs && p->scratch;
}

static void lay_out_buffers(struct poller *p)
{
    for (uint32_t i = 0; i < BUFFERS; i++) {
        struct envelope *e = &p->envelopes[i];
        e->iov = (struct iovec){p->buffers + (size_t)i * STRIDE + IO_HEADROOM, PAYLOAD_MAX};
        p->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &e->name, .msg_iov = &e->iov, .msg_iovlen = 1, .msg_control = e->control};
    }
    prepare(p, 0, BUFFERS);
}

int epoll_create_io(struct io **out, const struct io_events *events, uint32_t sockets_max)
{
    struct poller *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->io = (struct io){.ops = &epoll_ops, .dgram = &epoll_dgram_ops, .events = *events};
    p->sockets_max = sockets_max;
    int ret = open_epoll(p);
    if (ret == 0 && !take_memory(p))
        ret = -ENOMEM;
    if (ret) {
        epoll_destroy(&p->io);
        return ret;
    }
    lay_out_buffers(p);
    *out = &p->io;
    return 0;
}
