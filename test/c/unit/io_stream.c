/*
 * io_stream.h on the real kernel, by io_uring and by epoll: a stream is told of when it is ready,
 * once.
 */
#include "io_stream.h"

#include "io_kit.h"

static struct told {
    struct io_stream io;
    unsigned times, ended;
    struct told *removes; /* another, when it is told of */
    bool asks;            /* to be told again, once */
} told[2];

static void on_ready(void *ctx, struct io_stream *s, bool ended)
{
    struct told *t = container_of(s, struct told, io);
    (void)ctx;
    t->times++;
    t->ended += ended;
    if (t->removes)
        io_stream_remove(io, &t->removes->io);
    if (t->asks)
        io_stream_again(io, s);
    t->asks = false;
}

static void add_stream(struct told *t, int fd)
{
    static const struct io_stream_handler stream_handler = {on_ready};
    *t = (struct told){.io = {.fd = fd, .handler = &stream_handler}};
    CHECK_EQ(io_stream_add(io, &t->io), 0);
}

/* For what happens once, where it is asked for again, its end, and not after it was removed. */
static void streams_are_told_of_when_they_are_ready(void)
{
    int a[2], b[2];
    start();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
    add_stream(&told[0], a[0]);
    turn_until(&told[0].times, 1); /* there is room to write */
    turn();
    CHECK_EQ(told[0].times, 1);
    told[0].asks = true;
    CHECK(write(a[1], "x", 1) == 1);
    turn_until(&told[0].times, 3);
    turn();
    CHECK_EQ(told[0].times, 3);
    close(a[1]);
    turn_until(&told[0].times, 4);
    CHECK(told[0].ended > 0);
    io_stream_remove(io, &told[0].io);
    close(a[0]);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    add_stream(&told[0], a[0]);
    add_stream(&told[1], b[0]);
    told[0].removes = &told[1];
    told[1].removes = &told[0];
    for (int i = 0; i < 4; i++)
        turn();
    CHECK_EQ(told[0].times + told[1].times, 1);
    for (int i = 0; i < 2; i++) {
        io_stream_remove(io, &told[i].io);
        close(told[i].io.fd);
    }
    close(a[1]);
    close(b[1]);
    io_stop(io);
    io_destroy(io);
}

/* Not while it is held, and then of what has come meanwhile; nothing spins. */
static void what_comes_while_it_is_held_is_told_of_later(void)
{
    int a[2];
    start();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    add_stream(&told[0], a[0]);
    turn_until(&told[0].times, 1);
    io_hold(io);
    told[0].asks = true;
    io_stream_again(io, &told[0].io);
    CHECK(write(a[1], "x", 1) == 1);
    for (int i = 0; i < 3; i++)
        turn();
    CHECK_EQ(told[0].times, 1);
    io_go_on(io);
    turn_until(&told[0].times, 3);
    io_stream_remove(io, &told[0].io);
    close(a[0]);
    close(a[1]);
    io_stop(io);
    io_destroy(io);
}

static void all_on(int (*backend)(struct io **, const struct io_events *, uint32_t))
{
    create = backend;
    RUN(streams_are_told_of_when_they_are_ready);
    RUN(what_comes_while_it_is_held_is_told_of_later);
}

int main(void)
{
    all_on(uring_create);
    all_on(epoll_create_io);
    return test_end("io_stream");
}
