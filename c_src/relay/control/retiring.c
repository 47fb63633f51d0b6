#include "retiring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "handing.h"
#include "log.h"
#include "post_office.h"
#include "survival.h"
#include "tether.h"

enum { WAIT_S = 10 }; /* for the other program to come, while datagrams wait in the sockets */

static uint64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void wait_for_one(struct control *c)
{
    c->retiring.until = c->time.now + WAIT_S * NS_PER_S * CLOCK_SPEED;
}

static void hold(struct control *c)
{
    struct retiring *r = &c->retiring;
    wait_for_one(c);
    if (r->held)
        return;
    r->held = true;
    r->moving = c->worker_count;
    r->held_ns = monotonic_ns();
    office_mail_all(c, MAIL_HOLD, NULL, 0);
}

void retiring_ask(struct control *c, const struct ctl_frame *f)
{
    if (!survival_is_wanted(c) || c->takeover.pending) {
        pipe_reply(&c->pipe, f, CTL_REFUSED, "the relay would end with Erlang");
        return;
    }
    c->retiring.asked = true;
    c->retiring.ref = f->ref;
    hold(c);
}

struct pollfd retiring_poll(const struct control *c)
{
    return (struct pollfd){.fd = c->retiring.given ? c->retiring.to : -1, .events = POLLIN};
}

uint64_t retiring_due(const struct control *c)
{
    return c->retiring.held && c->retiring.to < 0 ? c->retiring.until : UINT64_MAX;
}

/* ------------------------------------------------------------------------- what workers have */

static void forget_parts(struct control *c)
{
    struct retiring *r = &c->retiring;
    while (r->part_count)
        handed_free(r->parts[--r->part_count]);
    r->handing = false;
}

/* What the next program is told before all else: when datagrams began to wait, and what the next
 * Erlang is told first. */
static bool put_first(struct control *c, struct handed *h)
{
    uint32_t sockets = 0;
    for (unsigned i = 0; i < c->retiring.part_count; i++) {
        const struct handed *part = c->retiring.parts[i];
        if (!part || part->failed)
            return false;
        sockets += (uint32_t)part->fd_count;
    }
    handed_put(h,
               &(struct ctl_frame){.code = CTL_LEFT,
                                   .u.left = {.held_ns = c->retiring.held_ns, .sockets = sockets}});
    survival_put_kept(c, h);
    return !h->failed;
}

static bool send_parts(struct control *c)
{
    const struct retiring *r = &c->retiring;
    struct parcel_piece *pieces = calloc(1 + r->part_count, sizeof(*pieces));
    struct handed *first = calloc(1, sizeof(*first));
    bool good = pieces && first && put_first(c, first);
    for (unsigned i = 0; good && i <= r->part_count; i++) {
        const struct handed *h = i ? r->parts[i - 1] : first;
        pieces[i] = (struct parcel_piece){h->bytes, h->len, h->fds, h->fd_count};
    }
    if (good) {
        fcntl(r->to, F_SETFL, fcntl(r->to, F_GETFL) & ~O_NONBLOCK);
        tether_answer(r->to, TETHER_TAKE);
        good = parcel_send(r->to, pieces, 1 + r->part_count);
    }
    handed_free(first);
    free(pieces);
    return good;
}

/* ------------------------------------------------------------------------------------- a turn */

static void nobody_takes(struct control *c, const char *why)
{
    log_error("the other relay program does not take over: %s", why);
    close(c->retiring.to);
    c->retiring.to = -1;
    c->retiring.given = c->retiring.met = false;
    wait_for_one(c);
}

static void hand(struct control *c)
{
    struct retiring *r = &c->retiring;
    if (!r->handing) {
        r->handing = true;
        office_mail_all(c, MAIL_HAND, NULL, 0);
    } else if (r->part_count == c->worker_count) {
        r->given = send_parts(c);
        if (!r->given)
            nobody_takes(c, strerror(errno));
        forget_parts(c);
    }
}

/* The other program says one word, TETHER_READS, when it reads. If it closes without, it has ended.
 */
static void hear(struct control *c)
{
    char word;
    ssize_t n = recv(c->retiring.to, &word, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != 1) {
        nobody_takes(c, "it has ended");
        return;
    }
    log_info("another relay program has taken over: this one ends");
    pipe_end(&c->pipe, 0);
}

/* Sends RETIRED if Erlang has asked, and leaves the pipes once all is written. */
static void say_farewell(struct control *c)
{
    struct retiring *r = &c->retiring;
    if (r->asked)
        pipe_send(&c->pipe, &(struct ctl_frame){.code = CTL_RETIRED, .ref = r->ref});
    r->parting = r->parting || r->asked;
    r->asked = false;
    pipe_flush(&c->pipe);
    if (!r->parting || pipe_waiting(&c->pipe))
        return;
    r->parting = false;
    if (c->pipe.in_fd >= 0) /* Erlang may have closed it already */
        survival_leave(c);
    wait_for_one(c);
}

static void go_on(struct control *c)
{
    c->retiring.held = false;
    office_mail_all(c, MAIL_GO_ON, NULL, 0);
}

/* No other program has come. The Erlang that asked for it has closed the pipes, and would not hear
 * which requests this relay answers by grants: so the grants end. */
static void give_up(struct control *c)
{
    log_error("no other relay program has taken over: this one goes on");
    atomic_fetch_add(&c->limits.grants_epoch, 1);
    go_on(c);
}

void retiring_turn(struct control *c)
{
    struct retiring *r = &c->retiring;
    if (r->to >= 0 && !r->met) {
        log_info("another relay program has come to take over");
        r->met = true;
        hold(c);
    }
    if (!r->held || r->moving || c->pipe.over)
        return;
    say_farewell(c);
    if (r->given)
        hear(c);
    else if (r->to >= 0 && !c->survival.forgetting)
        hand(c);
    else if (r->to >= 0 || r->parting || r->handing)
        return;
    else if (c->pipe.in_fd >= 0) /* one of the same program has come */
        go_on(c);
    else if (c->time.now >= r->until)
        give_up(c);
}

void retiring_close(struct control *c)
{
    forget_parts(c);
    if (c->retiring.to >= 0)
        close(c->retiring.to);
}
