#include "survival.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "post_office.h"
#include "tether.h"
#include "watch.h"
#include "workers.h"

enum {
    NOTE_MAX = 48 * 1024, /* KEPT is one frame */
    GUEST_S = 1,          /* that a tether has to hand over its pipes */
    LATE_S = 2,           /* after survive_s, when the kernel's timer ends the program */
    LOOK_MS = 250,        /* between two looks whether the socket still has its name */
    ENDED_BY_TIME = 0,
    ENDED_BY_NAME = 0,
};

/* True when no Erlang is connected. */
static bool is_alone(const struct control *c)
{
    return c->pipe.in_fd < 0;
}

/* Which file has that path now: perhaps another relay's socket. */
static struct name name_at(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return (struct name){0};
    return (struct name){.there = true, .dev = st.st_dev, .ino = st.st_ino};
}

/* Does the path still name our socket? systemd removes the run directory of a service that is
 * stopped for good; and another relay may have made a socket there since. */
static bool is_found(const struct survival *s)
{
    struct name now = name_at(s->path);
    return now.there && now.dev == s->name.dev && now.ino == s->name.ino;
}

void survival_place(struct control *c, int socket)
{
    c->survival.socket = socket;
    c->survival.name = name_at(c->survival.path);
}

void survival_open(struct control *c, const struct tether_start *start)
{
    c->survival = (struct survival){.socket = start->socket, .guest = -1, .tether = -1};
    if (start->socket < 0 && start->from < 0)
        return;
    snprintf(c->survival.path, sizeof(c->survival.path), "%s", start->path);
    survival_place(c, start->socket);
    c->pipe.lasting = true;
}

bool survival_is_wanted(const struct control *c)
{
    return c->survival.survive_s && c->worker_count;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* This program holds the lock until it ends, so nobody else has bound the path, and it may unlink
 * it. If the run directory was made anew meanwhile, the path is not ours and stays. */
void survival_close(struct control *c)
{
    struct survival *s = &c->survival;
    if (s->socket >= 0 && is_found(s))
        unlink(s->path);
    close_fd(&s->socket);
    close_fd(&s->guest);
    close_fd(&s->tether);
    if (s->note)
        crypto_zero(s->note, s->note_len);
    free(s->note);
    s->note = NULL;
}

/* --------------------------------------------------------------------------- Erlang is gone */

/* If stderr is a pipe its reader has ended with Erlang, or waits for the pipe to be closed: then
 * what is logged goes nowhere. A terminal, a file and the journal still take lines. */
static void leave_stderr(void)
{
    struct stat st;
    if (fstat(STDERR_FILENO, &st) != 0 || !S_ISFIFO(st.st_mode))
        return;
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null < 0)
        return;
    dup2(null, STDERR_FILENO);
    close(null);
}

/* The time begins when the last Erlang that has said LIVE is gone. One that connects and ends
 * before LIVE does not start it again. */
static void begin_time(struct control *c)
{
    struct survival *s = &c->survival;
    if (s->away)
        return;
    s->away = true;
    s->since = c->time.now;
    s->until = c->time.now + s->survive_s * NS_PER_S;
    alarm(s->survive_s + LATE_S);
    log_info("Erlang is gone: the relay goes on within grants for %u s at most", s->survive_s);
}

void survival_leave(struct control *c)
{
    pipe_leave(&c->pipe);
    close_fd(&c->survival.tether);
    begin_time(c);
    leave_stderr();
    atomic_store(&c->limits.away, true);
    c->survival.forgetting = c->worker_count;
    office_mail_all(c, MAIL_FORGET, NULL, 0);
}

void survival_look(struct control *c)
{
    if (!c->pipe.ended || pipe_has_frame(&c->pipe) || is_alone(c) || c->pipe.over)
        return;
    if (survival_is_wanted(c) && !c->takeover.pending)
        survival_leave(c);
    else
        c->pipe.over = true;
}

/* --------------------------------------------------------------------------- the next Erlang */

/* May an Erlang be let in? Not while one is connected, and not before the workers have forgotten
 * the requests that the last one had in hand. */
static bool is_open(const struct control *c)
{
    return is_alone(c) && c->retiring.to < 0 && !c->survival.forgetting && !c->pipe.over;
}

/* Is the next connection accepted? While the workers forget the last Erlang's requests, and while
 * one tether is being served, others wait in the socket's backlog. */
static bool is_answering(const struct control *c)
{
    return c->survival.guest < 0 && !c->survival.forgetting && !c->pipe.over;
}

struct pollfd survival_poll(const struct control *c)
{
    const struct survival *s = &c->survival;
    int fd = s->guest >= 0 ? s->guest : is_answering(c) ? s->socket : -1;
    return (struct pollfd){.fd = fd, .events = POLLIN};
}

uint64_t survival_due(const struct control *c)
{
    const struct survival *s = &c->survival;
    uint64_t due = s->away ? s->until : UINT64_MAX;
    if (s->away && is_alone(c) && s->socket >= 0)
        due = MIN(due, s->look_at);
    return s->guest >= 0 ? MIN(due, s->guest_until) : due;
}

/* Accepts one tether at a time. If an Erlang is connected it is told so, and its connection is
 * closed. */
static void take_guest(struct control *c)
{
    struct survival *s = &c->survival;
    if (s->socket < 0 || !is_answering(c))
        return;
    s->guest = accept4(s->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (s->guest < 0)
        return;
    if (!tether_is_trusted(s->guest)) {
        log_error("another user's process wanted to govern the relay: it was turned away");
        close_fd(&s->guest);
        return;
    }
    tether_answer(s->guest, is_open(c) ? TETHER_WELCOME : TETHER_GOVERNED);
    if (!is_open(c))
        close_fd(&s->guest);
    s->guest_until = c->time.now + GUEST_S * NS_PER_S * CLOCK_SPEED;
}

/* The tether is of another build, or was told to replace this program: its relay takes over. */
static void make_way(struct control *c)
{
    c->retiring.to = c->survival.guest;
    c->survival.guest = -1;
}

/* Takes the pipes of the next Erlang, and its stderr, from the tether. True when that is done. */
static bool let_in(struct control *c)
{
    struct survival *s = &c->survival;
    int fds[TETHER_FDS];
    if (s->guest < 0)
        return false;
    int ret = tether_take(s->guest, fds);
    if (ret == -EAGAIN && c->time.now < s->guest_until)
        return false;
    if (ret == -EPROTONOSUPPORT) {
        make_way(c);
        return false;
    }
    if (ret < 0 || !pipe_enter(&c->pipe, fds[0], fds[1])) {
        for (int i = 0; ret == 0 && i < TETHER_FDS; i++)
            close(fds[i]);
        close_fd(&s->guest);
        return false;
    }
    dup2(fds[2], STDERR_FILENO);
    close(fds[2]);
    tether_answer(s->guest, TETHER_IN);
    s->tether = s->guest;
    s->guest = -1;
    return true;
}

/* True when the socket has lost its name while no Erlang is connected: nobody can take this relay
 * over any more, and it would keep its ports from the one that is started next. */
static bool is_lost(struct control *c)
{
    struct survival *s = &c->survival;
    if (s->socket < 0 || !s->away || !is_alone(c) || c->time.now < s->look_at)
        return false;
    s->look_at = c->time.now + LOOK_MS * NS_PER_MS * CLOCK_SPEED;
    return !is_found(s);
}

bool survival_turn(struct control *c)
{
    const struct survival *s = &c->survival;
    if (s->away && c->time.now >= s->until) {
        log_info("no Erlang has come for %u s: the relay ends", s->survive_s);
        pipe_end(&c->pipe, ENDED_BY_TIME);
        return false;
    }
    if (is_lost(c)) {
        log_info("no Erlang can find it, for %s is gone: the relay ends", s->path);
        pipe_end(&c->pipe, ENDED_BY_NAME);
        return false;
    }
    take_guest(c);
    return let_in(c);
}

/* ---------------------------------------------------------------------------------- commands */

/* Without the note the next Erlang could not take over: then survive_s is 0, and the program ends
 * with Erlang. */
void survival_keep(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_keep *m = &f->u.keep;
    struct survival *s = &c->survival;
    if (s->note)
        crypto_zero(s->note, s->note_len);
    free(s->note);
    s->note = m->note.len <= NOTE_MAX ? malloc(m->note.len + 1) : NULL;
    s->note_len = s->note ? m->note.len : 0;
    s->survive_s = s->note && c->pipe.lasting ? m->survive_s : 0;
    if (s->note && m->note.len)
        memcpy(s->note, m->note.data, m->note.len);
    pipe_reply(&c->pipe, f, s->note ? CTL_OK : CTL_REFUSED, s->note ? "" : "note too long");
}

enum { LISTENER_ROW_MAX = 4 + 1 + 2 + 16 };

static size_t put_listeners(const struct control *c, uint8_t *out, size_t cap)
{
    struct wbytes w = wbytes_of(out, cap);
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (!c->listeners[i].used)
            continue;
        wbytes_put32(&w, c->listeners[i].id);
        ctl_put_addr(&w, &c->listeners[i].local);
    }
    return wbytes_len(&w);
}

/* The frame points into `room`, where the listeners are written. */
static struct ctl_kept kept(const struct control *c, uint8_t *room, size_t cap)
{
    const struct survival *s = &c->survival;
    size_t len = put_listeners(c, room, cap);
    uint64_t away = (c->time.now - s->since) / NS_PER_MS;
    return (struct ctl_kept){.workers = (uint16_t)c->worker_count,
                             .epoch = atomic_load(&c->limits.grants_epoch),
                             .away_ms = (uint32_t)MIN(away, (uint64_t)UINT32_MAX),
                             .listeners = ctl_bytes_of(room, len),
                             .note = ctl_bytes_of(s->note, s->note_len)};
}

void survival_put_kept(const struct control *c, struct handed *h)
{
    uint8_t listeners[LISTENERS_MAX * LISTENER_ROW_MAX];
    handed_put(
        h, &(struct ctl_frame){.code = CTL_KEPT, .u.kept = kept(c, listeners, sizeof(listeners))});
}

void survival_adopt(struct control *c, const struct ctl_frame *f)
{
    uint8_t listeners[LISTENERS_MAX * LISTENER_ROW_MAX];
    if (!c->survival.away) {
        pipe_reply(&c->pipe, f, CTL_REFUSED, "there was no other Erlang");
        return;
    }
    struct ctl_frame out = {
        .code = CTL_KEPT, .ref = f->ref, .u.kept = kept(c, listeners, sizeof(listeners))};
    pipe_send(&c->pipe, &out);
    workers_report(c);
    watch_tell(c);
}

void survival_live(struct control *c, const struct ctl_frame *f)
{
    alarm(0);
    c->survival.away = false;
    atomic_store(&c->limits.away, false);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}
