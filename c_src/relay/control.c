#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"

enum { FRAME_MAX = 256 * 1024, OUT_SIZE = 512 * 1024 };

/* ------------------------------------------------------------------------------ towards Erlang */

/* Half the buffer is kept for the replies of this thread: nothing more is taken in below that. */
static bool has_room(const struct control *c)
{
    return OUT_SIZE - c->out_len > OUT_SIZE / 2;
}

static void put_frame(struct control *c, const uint8_t *frame, size_t len)
{
    if (OUT_SIZE - c->out_len < len + 4) {
        log_error("no room for a frame to Erlang");
        c->finished = true;
        c->exit_status = EXIT_SYSTEM;
        return;
    }
    store32(c->out + c->out_len, (uint32_t)len);
    memcpy(c->out + c->out_len + 4, frame, len);
    c->out_len += len + 4;
}

void control_send(struct control *c, const struct ctl_frame *f)
{
    static uint8_t buf[64 * 1024]; /* of this thread alone */
    size_t len = ctl_encode(f, buf, sizeof(buf));
    put_frame(c, buf, len);
}

/* Writes what the pipe takes. 0 or -errno, which is not -EAGAIN. */
static int write_out(struct control *c)
{
    while (c->out_sent < c->out_len) {
        ssize_t n = write(c->out_fd, c->out + c->out_sent, c->out_len - c->out_sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        c->out_sent += (size_t)n;
    }
    c->out_len = c->out_sent = 0;
    return 0;
}

static void flush_out(struct control *c)
{
    if (write_out(c) != 0)
        c->finished = true; /* Erlang is gone */
}

/* ----------------------------------------------------------------------------- towards workers */

static void read_mail(struct control *c, struct worker *w);

/* Waits for the worker to make room. It may itself be waiting for room on its way out, so that way
 * is kept open meanwhile. */
static uint8_t *post_room(struct control *c, struct worker *w, uint32_t len)
{
    uint8_t *record;
    while (!(record = mailbox_reserve(&w->in, len))) {
        struct pollfd fds[2] = {{.fd = c->out_fd, .events = c->out_len ? POLLOUT : 0},
                                {.fd = c->doorbell, .events = 0}};
        worker_wake(w);
        poll(fds, 2, 1);
        read_mail(c, w);
        flush_out(c);
        if (c->finished)
            return NULL;
    }
    return record;
}

void control_mail(struct control *c, unsigned index, enum mail kind, const void *data, size_t len)
{
    struct worker *w = &c->workers[index];
    uint8_t *record = post_room(c, w, (uint32_t)(1 + len));
    if (!record)
        return;
    record[0] = (uint8_t)kind;
    if (len)
        memcpy(record + 1, data, len);
    mailbox_commit(&w->in, record, (uint32_t)(1 + len));
    w->mailed = true;
}

/* Once for all that was mailed in this turn. */
static void wake_mailed(struct control *c)
{
    for (unsigned i = 0; i < c->worker_count; i++) {
        if (!c->workers[i].mailed)
            continue;
        c->workers[i].mailed = false;
        worker_wake(&c->workers[i]);
    }
}

/* ---------------------------------------------------------------------------------------- loop */

/* All whole frames in the buffer, as long as their replies have room. */
static void read_frames(struct control *c)
{
    size_t at = 0;
    while (!c->finished && c->in_len - at >= 4 && has_room(c)) {
        size_t len = load32(c->in + at);
        if (len > FRAME_MAX - 4) {
            log_error("frame from Erlang of %zu bytes", len);
            c->finished = true;
            c->exit_status = EXIT_PROTOCOL;
            return;
        }
        if (c->in_len - at - 4 < len)
            break;
        order_frame(c, c->in + at + 4, len);
        at += 4 + len;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
}

static void read_in(struct control *c)
{
    ssize_t n = read(c->in_fd, c->in + c->in_len, FRAME_MAX - c->in_len);
    if (n > 0)
        c->in_len += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        c->finished = true; /* Erlang is gone: no relaying without a governor */
}

/* A mail for another worker, named first in it. What it carries of a client is dropped rather than
 * waited for. */
static void pass_on(struct control *c, const uint8_t *record, uint32_t len)
{
    unsigned to;
    memcpy(&to, record + 1, sizeof(to));
    if (to >= c->worker_count ||
        (record[0] == MAIL_CARRY && mailbox_room(&c->workers[to].in) < MAIL_SIZE / 4))
        return;
    control_mail(c, to, (enum mail)record[0], record + 1, len - 1);
}

/* Takes the oldest mail of a worker. A roam leaves its box before it is passed on, for finding room
 * for it may lead back here; a carry never waits for room. */
static void take_mail(struct control *c, struct worker *w, const uint8_t *record, uint32_t len)
{
    uint8_t roam[1 + sizeof(struct mail_roam)];
    struct mail_port port;
    uint32_t listener;
    switch ((enum mail)record[0]) {
    case MAIL_ROAM:
        memcpy(roam, record, sizeof(roam));
        mailbox_consume(&w->out);
        pass_on(c, roam, sizeof(roam));
        return;
    case MAIL_IDLE:
        memcpy(&listener, record + 1, sizeof(listener));
        mailbox_consume(&w->out);
        order_listener_idle(c, listener);
        return;
    case MAIL_CARRY:
        pass_on(c, record, len);
        break;
    case MAIL_PORT_FREE:
        memcpy(&port, record + 1, sizeof(port));
        port_release(port.pool, port.port);
        break;
    default:
        put_frame(c, record + 1, len - 1);
    }
    mailbox_consume(&w->out);
}

static void read_mail(struct control *c, struct worker *w)
{
    uint32_t len;
    const uint8_t *record;
    while (has_room(c) && (record = mailbox_peek(&w->out, &len)))
        take_mail(c, w, record, len);
    if (atomic_load(&w->starved))
        worker_wake(w);
}

/* Frames and ports; false where something is left, or for the control thread to do. */
static bool take_plain_mail(struct control *c, struct worker *w)
{
    uint32_t len;
    const uint8_t *record;
    while ((record = mailbox_peek(&w->out, &len))) {
        if (!has_room(c) || (record[0] != MAIL_FRAME && record[0] != MAIL_PORT_FREE))
            return false;
        take_mail(c, w, record, len);
    }
    return true;
}

/* Whatever goes wrong with the pipe the control thread finds out by itself. */
bool control_tell(void *ctx, struct worker *w, bool now)
{
    struct control *c = ctx;
    if (pthread_mutex_trylock(&c->lock) != 0)
        return false;
    bool all = take_plain_mail(c, w);
    if (now)
        all = write_out(c) == 0 && c->out_len == 0 && all;
    pthread_mutex_unlock(&c->lock);
    if (atomic_load(&w->starved))
        worker_wake(w);
    return all;
}

/* Something read before still waits, though there would be room for it now. */
static bool work_left(struct control *c)
{
    uint32_t len;
    if (!has_room(c))
        return false;
    if (c->in_len >= 4 && c->in_len - 4 >= load32(c->in))
        return true;
    for (unsigned i = 0; i < c->worker_count; i++)
        if (mailbox_peek(&c->workers[i].out, &len))
            return true;
    return false;
}

static int poll_timeout(struct control *c)
{
    if (work_left(c))
        return 0;
    uint64_t next = MIN(c->next_expiry, c->next_scan);
    return next <= c->time.now ? 0 : (int)(clock_wait(next - c->time.now) / NS_PER_MS) + 1;
}

static void turn(struct control *c)
{
    bool room = has_room(c);
    struct pollfd fds[3] = {
        {.fd = c->in_fd, .events = room && c->in_len < FRAME_MAX ? POLLIN : 0},
        {.fd = c->doorbell, .events = room ? POLLIN : 0},
        {.fd = c->out_fd, .events = c->out_len ? POLLOUT : 0},
    };
    int timeout = poll_timeout(c);
    pthread_mutex_unlock(&c->lock);
    int ret = poll(fds, ARRAY_SIZE(fds), timeout);
    pthread_mutex_lock(&c->lock);
    if (ret < 0 && errno != EINTR) {
        c->finished = true;
        c->exit_status = EXIT_SYSTEM;
        return;
    }
    c->time = clock_read();
    if (fds[0].revents)
        read_in(c);
    if (fds[1].revents & POLLIN) {
        uint64_t rings;
        ssize_t ignored = read(c->doorbell, &rings, sizeof(rings));
        (void)ignored;
    }
    read_frames(c);
    for (unsigned i = 0; i < c->worker_count && !c->finished; i++)
        read_mail(c, &c->workers[i]);
    c->next_expiry = ports_expire(&c->ports, c->time.now);
    if (c->time.now >= c->next_scan)
        order_scan_host(c);
    wake_mailed(c);
    flush_out(c);
}

static void hello(struct control *c)
{
    static const char build[] = __VERSION__ CLOCK_NAME;
    struct ctl_frame f = {.code = CTL_HELLO,
                          .u.hello = {.magic = CTL_MAGIC,
                                      .version = CTL_VERSION,
                                      .table_hash = ctl_table_hash(),
                                      .cpus = (uint16_t)sysconf(_SC_NPROCESSORS_ONLN),
                                      .build = ctl_bytes_of(build, sizeof(build) - 1)}};
    control_send(c, &f);
}

static void stop_workers(struct control *c)
{
    for (unsigned i = 0; i < c->worker_count; i++) {
        atomic_store(&c->workers[i].stopping, true);
        worker_wake(&c->workers[i]);
    }
    for (unsigned i = 0; i < c->worker_count; i++) {
        pthread_join(c->workers[i].thread, NULL);
        io_destroy(c->workers[i].io);
        worker_destroy(&c->workers[i]);
    }
    free(c->workers);
}

static bool open_ends(struct control *c)
{
    c->in = malloc(FRAME_MAX);
    c->out = malloc(OUT_SIZE);
    c->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!c->in || !c->out || c->doorbell < 0) {
        log_error("cannot start: %s", strerror(errno));
        return false;
    }
    if (fcntl(c->out_fd, F_SETFL, fcntl(c->out_fd, F_GETFL) | O_NONBLOCK) != 0) {
        log_error("fd %d is not open: this program is started by Erlang", c->out_fd);
        return false;
    }
    return true;
}

int control_run(int in_fd, int out_fd)
{
    static struct control c; /* too large for a stack; there is one in a process */
    c = (struct control){.in_fd = in_fd, .out_fd = out_fd, .doorbell = -1, .time = clock_read()};
    c.next_expiry = UINT64_MAX;
    pthread_mutex_init(&c.lock, NULL);
    pthread_mutex_lock(&c.lock);
    if (open_ends(&c)) {
        order_scan_host(&c);
        hello(&c);
        flush_out(&c);
        while (!c.finished)
            turn(&c);
        stop_workers(&c);
        ports_destroy(&c.ports);
        memory_release(c.limits.users, c.limits.users_max * sizeof(*c.limits.users));
    } else {
        c.exit_status = EXIT_SYSTEM;
    }
    pthread_mutex_unlock(&c.lock);
    pthread_mutex_destroy(&c.lock);
    free(c.in);
    free(c.out);
    free(c.rules);
    if (c.doorbell >= 0)
        close(c.doorbell);
    return c.exit_status;
}
