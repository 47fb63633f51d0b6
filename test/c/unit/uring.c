/*
 * io_uring where the kernel refuses or is short of something: nobody spins for ever, and whoever
 * everybody depends on comes first.
 */
#include "uring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "ring.h"
#include "socket.h"
#include "test.h"
#include "uring_send.h"

enum { RELAYED = 80, EACH = 40 }; /* datagrams: far more than there are buffers */

static unsigned packets, no_buffers, refused;

static void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
{
    (void)ctx;
    (void)s;
    (void)p;
    packets++;
}

static void on_closed(void *ctx, struct io_socket *s)
{
    (void)ctx;
    (void)s;
}

static void on_trouble(void *ctx, enum io_trouble what, int err)
{
    (void)ctx;
    (void)err;
    no_buffers += what == IO_NO_BUFFERS;
}

static void on_lost(void *ctx, struct io_socket *s, uint32_t n)
{
    (void)ctx;
    (void)s;
    (void)n;
}

static void on_unsent(void *ctx, struct io_socket *s, const struct io_unsent *u)
{
    (void)ctx;
    (void)s;
    refused += u->err == EINVAL;
}

static const struct io_events events = {NULL, on_trouble, on_lost};
static const struct io_handler handler = {
    .on_packet = on_packet, .on_closed = on_closed, .on_unsent = on_unsent};

static struct io *make(void)
{
    struct io *io = NULL;
    if (uring_create(&io, &events, 128) != 0)
        abort();
    return io;
}

/* A socket of the io's, and its name. */
static void opened(struct io *io, struct io_socket *s, struct sockaddr_storage *ss, socklen_t *len)
{
    struct addr a;
    CHECK(addr_parse(&a, test_loopback(), 0));
    s->fd = socket_open_relayed(&a, NULL);
    s->handler = &handler;
    CHECK(s->fd >= 0 && getsockname(s->fd, (struct sockaddr *)ss, len) == 0);
    CHECK_EQ(io_add(io, s), 0);
}

static void flooded(struct io *io, struct io_socket *s, int from)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    opened(io, s, &ss, &len);
    for (unsigned i = 0; i < (unsigned)EACH; i++)
        CHECK_EQ(sendto(from, "x", 1, 0, (struct sockaddr *)&ss, len), 1);
}

static unsigned armed(const struct io_socket *s, unsigned n)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += s[i].armed;
    return sum;
}

/* All clients hang on a listener; a relayed socket is one client's. */
static void listeners_are_armed_first_when_buffers_ran_out(void)
{
    struct io *io = make();
    static struct io_socket relayed[RELAYED], listener;
    int from = socket(AF_INET, SOCK_DGRAM, 0);
    packets = no_buffers = 0;
    listener.first = true;
    for (unsigned i = 0; i < RELAYED; i++)
        flooded(io, &relayed[i], from);
    flooded(io, &listener, from);
    io_wait(io, 0);
    for (int i = 0; i < 20 && (no_buffers == 0 || listener.armed); i++) {
        io_dispatch(io);
        if (!listener.armed)
            break;
        io_wait(io, 0);
    }
    CHECK(no_buffers > 2 * REARM_MAX);
    CHECK(!listener.armed);
    io_wait(io, 0);
    CHECK(listener.armed);
    CHECK(armed(relayed, RELAYED) < RELAYED); /* the others wait longer */
    for (int i = 0; i < 100 && packets < (RELAYED + 1) * EACH; i++) {
        io_dispatch(io);
        io_wait(io, 1000000);
    }
    CHECK_EQ(packets, (RELAYED + 1) * EACH); /* nothing was lost */
    io_stop(io);
    io_destroy(io);
    close(from);
}

/* What a program that does this ends with; -1 where a signal ended it. */
static int status_of(void (*child)(struct io *io))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        alarm(60);
        struct io *io = make();
        child(io);
        for (int i = 0; i < 100000; i++) {
            io_wait(io, 1000000);
            io_dispatch(io);
        }
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A receive that fails whatever one does. */
static void no_socket(struct io *io)
{
    static struct io_socket s = {.handler = &handler};
    s.fd = eventfd(0, 0);
    io_add(io, &s);
}

static void break_ring(struct io *io)
{
    struct uring *u = uring_of(io);
    close(u->ring.ring_fd);
    u->ring.enter_ring_fd = 9999;
}

static void submit_to_a_broken_ring(struct io *io)
{
    break_ring(io);
    for (;;)
        io_uring_prep_nop(ring_sqe(uring_of(io)));
}

static void what_the_kernel_refuses_for_good_ends_the_program(void)
{
    CHECK_EQ(status_of(no_socket), EXIT_SYSTEM);
    CHECK_EQ(status_of(break_ring), EXIT_SYSTEM);
    CHECK_EQ(status_of(submit_to_a_broken_ring), EXIT_SYSTEM);
}

static void what_passes_is_waited_for(void)
{
    unsigned refusals = 0;
    for (int i = 0; i < 200; i++)
        ring_patience(&refusals, "a test", EAGAIN);
    CHECK_EQ(refusals, 200);
}

/* Sends a datagram there, and by which operation that is. */
static unsigned way_to(struct io *io, struct io_socket *s, const struct addr *to)
{
    struct uring *u = uring_of(io);
    const struct io_uring_sq *sq = &u->ring.sq;
    uint8_t *data = io_scratch(io, 1);
    *data = 'x';
    io_send(io, s, data, 1, to, NULL, 0);
    uring_put_runs(u);
    unsigned opcode = sq->sqes[(sq->sqe_tail - 1) & *sq->kring_mask].opcode;
    io_wait(io, 0);
    io_dispatch(io);
    return opcode;
}

/* Port 0, as a spoofed source has it, is EINVAL, and so is a peer behind a blackhole route: no sign
 * of a kernel that takes no address with a plain send. */
static void a_refused_datagram_turns_no_way_of_sending_off(void)
{
    enum { REFUSED = 100 };
    struct io *io = make();
    static struct io_socket s;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr there, nowhere;
    opened(io, &s, &ss, &len);
    CHECK(addr_from_sockaddr(&there, (struct sockaddr *)&ss, len));
    nowhere = there;
    nowhere.port = 0;
    refused = 0;
    unsigned usual = way_to(io, &s, &there);
    CHECK_EQ(usual, uring_of(io)->plain_send ? IORING_OP_SEND : IORING_OP_SENDMSG);
    for (unsigned i = 0; i < REFUSED; i++)
        CHECK_EQ(way_to(io, &s, &nowhere), usual);
    CHECK_EQ(refused, REFUSED);
    CHECK_EQ(way_to(io, &s, &there), usual);
    io_stop(io);
    io_destroy(io);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(listeners_are_armed_first_when_buffers_ran_out);
    RUN(what_the_kernel_refuses_for_good_ends_the_program);
    RUN(what_passes_is_waited_for);
    RUN(a_refused_datagram_turns_no_way_of_sending_off);
    return test_end("uring");
}
