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
    GUEST_S = 1,          /* whoever connects has to say what for */
    LATE_S = 2,           /* behind its time the kernel ends the program */
    LOOK_MS = 250,        /* between two looks whether it can be found */
    ENDED_BY_TIME = 0,
    ENDED_BY_NAME = 0,
};

/* Is there neither an Erlang nor one that is coming in? */
static bool is_alone(const struct control *c)
{
    return c->pipe.in_fd < 0;
}

/* The socket at that path, whoever has it. */
static struct name name_at(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return (struct name){0};
    return (struct name){.there = true, .dev = st.st_dev, .ino = st.st_ino};
}

/* Would the next Erlang find it? Whoever ends a service for good removes its run directory, as
 * systemd does; another relay may have its own there since. */
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

/* The lock is this program's until it has ended, so the name is its own to take away, unless the
 * run directory is another one by now. */
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

/* A pipe that nobody reads is closed by now, and whoever waits for its end is not to wait for us.
 * A terminal, a file and a journal take lines still. */
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

/* From when Erlang was last there: who only came in does not prolong it. */
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

/* May somebody come in: nobody is there, and nothing is left of who was. */
static bool is_open(const struct control *c)
{
    return is_alone(c) && c->retiring.to < 0 && !c->survival.forgetting && !c->pipe.over;
}

/* Those who come wait in the kernel while the last one is being forgotten, and while one of them is
 * asked what for. */
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

/* One at a time. Whoever comes to a relay that has its Erlang is told so. */
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

/* Whoever has come is of another build, or wants another program: that one takes over. */
static void make_way(struct control *c)
{
    c->retiring.to = c->survival.guest;
    c->survival.guest = -1;
}

/* It hands over the pipes of its Erlang, and where that one's log goes. */
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

/* It would keep its ports from whoever is started next, and could never be taken over. */
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

/* The program ends with Erlang where the next one would not know what it needs. */
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

/* Listeners lie in `room` then. */
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
