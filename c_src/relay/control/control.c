#include "control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "certificates.h"
#include "control_state.h"
#include "cpus.h"
#include "listeners.h"
#include "log.h"
#include "order.h"
#include "post_office.h"
#include "retiring.h"
#include "rules.h"
#include "stalls.h"
#include "survival.h"
#include "takeover.h"
#include "watch.h"
#include "workers.h"

/* All whole frames that have come, as long as their replies have room. */
static void read_frames(struct control *c)
{
    size_t len;
    const uint8_t *frame;
    while (!c->pipe.over && pipe_has_room(&c->pipe) && (frame = pipe_take(&c->pipe, &len)))
        order_frame(c, frame, len);
}

/* Is there a frame that was read before and had to wait, and is there room for its reply now? */
static bool work_left(struct control *c)
{
    return pipe_has_room(&c->pipe) && (pipe_has_frame(&c->pipe) || office_has_mail(c));
}

static int poll_timeout(struct control *c)
{
    if (work_left(c))
        return 0;
    uint64_t next = MIN(MIN(c->next_expiry, stalls_look_due(c)), survival_due(c));
    next = MIN(next, MIN(retiring_due(c), takeover_due(c)));
    if (pipe_has_room(&c->pipe)) /* for what is to be told then */
        next = MIN(next, watch_next(c));
    return next <= c->time.now ? 0 : (int)(clock_wait(next - c->time.now) / NS_PER_MS) + 1;
}

/* Sleeps until there is something to do, and reads what Erlang says. False if the system failed. */
static bool wait_and_read(struct control *c)
{
    bool room = pipe_has_room(&c->pipe);
    struct pollfd fds[] = {
        {.fd = c->pipe.in_fd, .events = room && pipe_may_read(&c->pipe) ? POLLIN : 0},
        {.fd = c->doorbell, .events = room ? POLLIN : 0},
        {.fd = c->pipe.out_fd, .events = pipe_waiting(&c->pipe) ? POLLOUT : 0},
        {.fd = room ? watch_fd(c) : -1, .events = POLLIN},
        survival_poll(c),
        retiring_poll(c),
    };
    int timeout = poll_timeout(c);
    pthread_mutex_unlock(&c->lock);
    int ret = poll(fds, ARRAY_SIZE(fds), timeout);
    pthread_mutex_lock(&c->lock);
    if (ret < 0 && errno != EINTR)
        return false;
    c->time = clock_read();
    if (fds[0].revents)
        pipe_read(&c->pipe);
    if (fds[1].revents & POLLIN) {
        uint64_t rings;
        ssize_t ignored = read(c->doorbell, &rings, sizeof(rings));
        (void)ignored;
    }
    c->watch.told |= fds[3].revents != 0;
    return true;
}

static void hello(struct control *c)
{
    static const char build[] = __VERSION__ CLOCK_NAME;
    struct ctl_frame f = {.code = CTL_HELLO,
                          .u.hello = {.magic = CTL_MAGIC,
                                      .version = CTL_VERSION,
                                      .table_hash = ctl_table_hash(),
                                      .cpus = (uint16_t)cpus_usable(),
                                      .build = ctl_bytes_of(build, sizeof(build) - 1),
                                      .pid = (uint32_t)getpid(),
                                      .kept = c->takeover.pending ? 2
                                              : c->survival.away  ? 1
                                                                  : 0}};
    pipe_send(&c->pipe, &f);
}

static void turn(struct control *c)
{
    if (!wait_and_read(c)) {
        pipe_end(&c->pipe, EXIT_SYSTEM);
        return;
    }
    read_frames(c);
    survival_look(c);
    office_read(c);
    listeners_answer(c);
    listeners_end(c);
    c->next_expiry = ports_expire(&c->ports, c->time.now);
    if (ports_sweep(&c->ports))
        rules_spread(c);
    if (pipe_has_room(&c->pipe))
        watch_turn(c);
    stalls_look(c);
    if (survival_turn(c))
        hello(c);
    retiring_turn(c);
    takeover_turn(c);
    office_wake(c);
    pipe_flush(&c->pipe);
    office_told(c);
}

static bool open_ends(struct control *c, int in_fd, int out_fd)
{
    if (!pipe_open(&c->pipe, in_fd, out_fd))
        return false;
    c->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->doorbell < 0)
        log_error("cannot start: %s", strerror(errno));
    return c->doorbell >= 0;
}

static void serve(struct control *c)
{
    watch_start(c);
    hello(c);
    pipe_flush(&c->pipe);
    while (!c->pipe.over)
        turn(c);
    workers_stop(c);
    certs_destroy(c);
    ports_destroy(&c->ports);
}

int control_run(int in_fd, int out_fd, struct tether_start *start)
{
    static struct control c; /* too large for a stack; there is one in a process */
    c.doorbell = -1;
    c.time = clock_read();
    c.next_expiry = UINT64_MAX;
    pthread_mutex_init(&c.lock, NULL);
    pthread_mutex_lock(&c.lock);
    bool open = open_ends(&c, in_fd, out_fd);
    c.retiring.to = -1;
    survival_open(&c, start);
    takeover_open(&c, start);
    if (open)
        serve(&c);
    else
        c.pipe.exit_status = EXIT_SYSTEM;
    survival_close(&c);
    retiring_close(&c);
    takeover_close(&c);
    pthread_mutex_unlock(&c.lock);
    pthread_mutex_destroy(&c.lock);
    pipe_close(&c.pipe);
    rules_destroy(&c);
    watch_stop(&c);
    if (c.doorbell >= 0)
        close(c.doorbell);
    return c.pipe.exit_status;
}
