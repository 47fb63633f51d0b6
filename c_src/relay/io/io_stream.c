/*
 * An epoll of their own for the streams of an io, whose descriptor the backend watches like one
 * socket more: io_uring polls it, the other epoll contains it. So there is one way to add, remove
 * and hand on, and none of the late completions that receives have.
 */
#include "io_stream.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 64 };

int io_streams_open(struct io *io)
{
    list_init(&io->streams.again);
    io->streams.told = NULL;
    io->streams.fd = epoll_create1(EPOLL_CLOEXEC);
    return io->streams.fd < 0 ? -errno : 0;
}

void io_streams_close(struct io *io)
{
    if (io->streams.fd >= 0)
        close(io->streams.fd);
    io->streams.fd = -1;
}

int io_stream_add(struct io *io, struct io_stream *s)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    list_init(&s->again);
    return epoll_ctl(io->streams.fd, EPOLL_CTL_ADD, s->fd, &e) == 0 ? 0 : -errno;
}

/* It may stand in what is just being told. */
static void forget_told(struct io *io, const struct io_stream *s)
{
    for (int i = 0; io->streams.told && i < io->streams.told_count; i++)
        if (io->streams.told[i].data.ptr == s)
            io->streams.told[i].data.ptr = NULL;
}

void io_stream_remove(struct io *io, struct io_stream *s)
{
    epoll_ctl(io->streams.fd, EPOLL_CTL_DEL, s->fd, NULL);
    list_del(&s->again);
    forget_told(io, s);
}

void io_stream_again(struct io *io, struct io_stream *s)
{
    if (list_empty(&s->again))
        list_add_tail(&io->streams.again, &s->again);
}

static void tell(struct io *io, struct io_stream *s, bool ended)
{
    s->handler->on_ready(io->events.ctx, s, ended);
}

/* Those that asked for it before, each once. */
static void tell_again(struct io *io)
{
    struct list now;
    list_init(&now);
    while (!list_empty(&io->streams.again)) {
        struct list *l = io->streams.again.next;
        list_del(l);
        list_add_tail(&now, l);
    }
    while (!list_empty(&now)) {
        struct io_stream *s = container_of(now.next, struct io_stream, again);
        list_del(&s->again);
        tell(io, s, true); /* perhaps: it was told before and not read */
    }
}

/* What is left for want of places stays ready: the descriptor is readable again at once. */
void io_streams_tell(struct io *io)
{
    struct epoll_event events[EVENTS];
    io->streams.ready = false;
    tell_again(io);
    int n = epoll_wait(io->streams.fd, events, EVENTS, 0);
    io->streams.told = events;
    io->streams.told_count = n;
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr)
            tell(io, events[i].data.ptr, events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    io->streams.told = NULL;
}
