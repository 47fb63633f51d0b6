#include "post_office.h"

#include <poll.h>
#include <string.h>

#include "stalls.h"

/* --------------------------------------------------------------------------- from workers */

/* Mail from one worker to another, whose number is its first field. */
static void pass_on(struct control *c, const uint8_t *record, uint32_t len)
{
    unsigned to;
    memcpy(&to, record + 1, sizeof(to));
    if (to < c->worker_count)
        office_mail(c, to, (enum mail)record[0], record + 1, len - 1);
}

/* listeners.c looks at it at the end of the turn. */
static void note_idle(struct control *c, const uint8_t *data)
{
    uint32_t id;
    memcpy(&id, data, sizeof(id));
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used && c->listeners[i].closing && c->listeners[i].id == id)
            c->listeners[i].idle++;
}

/* Likewise. */
static void note_listened(struct control *c, const uint8_t *data)
{
    struct mail_listened m;
    memcpy(&m, data, sizeof(m));
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (!c->listeners[i].used || c->listeners[i].id != m.id || !c->listeners[i].asked)
            continue;
        c->listeners[i].asked--;
        if (m.err) {
            c->listeners[i].err = m.err;
            c->listeners[i].failed = m.worker;
        }
    }
}

static void free_port(const uint8_t *data)
{
    struct mail_port port;
    memcpy(&port, data, sizeof(port));
    port_release(port.pool, port.port);
}

/* retiring.c looks at them when all have come. */
static void note_handed(struct control *c, const uint8_t *data)
{
    struct handed *h;
    memcpy(&h, data, sizeof(h));
    c->retiring.parts[c->retiring.part_count++] = h;
}

/* Takes the oldest mail of a worker. Mail for another worker is taken out of the box before it is
 * passed on: waiting for room in the other's box may call this function again. */
static void take(struct control *c, struct mailbox *out, const uint8_t *record, uint32_t len)
{
    uint8_t roam[1 + sizeof(struct mail_roam)];
    switch ((enum mail)record[0]) {
    case MAIL_ROAM:
        memcpy(roam, record, sizeof(roam));
        mailbox_consume(out);
        pass_on(c, roam, sizeof(roam));
        return;
    case MAIL_LISTENED:
        note_listened(c, record + 1);
        break;
    case MAIL_IDLE:
        note_idle(c, record + 1);
        break;
    case MAIL_PORT_FREE:
        free_port(record + 1);
        break;
    case MAIL_FORGOT:
        c->survival.forgetting--;
        break;
    case MAIL_STILL:
        c->retiring.moving--;
        break;
    case MAIL_HANDED:
        note_handed(c, record + 1);
        break;
    default:
        pipe_put(&c->pipe, record + 1, len - 1);
    }
    mailbox_consume(out);
}

static void read_worker(struct control *c, struct worker *w)
{
    uint32_t len;
    const uint8_t *record;
    while (pipe_has_room(&c->pipe) && (record = mailbox_peek(&w->shard.out, &len)))
        take(c, &w->shard.out, record, len);
    if (atomic_load(&w->starved))
        worker_wake(w);
}

void office_read(struct control *c)
{
    for (unsigned i = 0; i < c->worker_count && !c->pipe.over; i++)
        read_worker(c, &c->workers[i]);
}

/* All that was taken is in the pipe. */
static void note_told(struct worker *w)
{
    atomic_store(&w->told, mailbox_consumed(&w->shard.out));
}

void office_told(struct control *c)
{
    if (pipe_waiting(&c->pipe))
        return;
    for (unsigned i = 0; i < c->worker_count; i++) {
        note_told(&c->workers[i]);
        if (atomic_exchange(&c->workers[i].owing, false))
            worker_wake(&c->workers[i]);
    }
}

bool office_has_mail(struct control *c)
{
    uint32_t len;
    for (unsigned i = 0; i < c->worker_count; i++)
        if (mailbox_peek(&c->workers[i].shard.out, &len))
            return true;
    return false;
}

/* ----------------------------------------------------------------------------- to workers */

/* Waits until the worker has made room in its box. The worker may itself wait for room in its box
 * towards this thread, so that one is emptied meanwhile. The wait ends when Erlang is gone, and
 * when a worker hangs (stalls.h). */
static uint8_t *make_room(struct control *c, struct worker *w, uint32_t len)
{
    uint8_t *record;
    while (!(record = mailbox_reserve(&w->shard.in, len))) {
        struct pollfd fds[2] = {
            {.fd = c->pipe.out_fd, .events = pipe_waiting(&c->pipe) ? POLLOUT : 0},
            {.fd = c->pipe.in_fd, .events = 0}}; /* POLLHUP comes without being asked for */
        worker_wake(w);
        poll(fds, 2, 1);
        c->time = clock_read();
        stalls_look(c);
        read_worker(c, w);
        pipe_flush(&c->pipe);
        c->pipe.over |= !c->pipe.lasting && fds[1].revents & (POLLHUP | POLLERR);
        if (c->pipe.over)
            return NULL;
    }
    return record;
}

void office_mail(struct control *c, unsigned worker, enum mail kind, const void *data, size_t len)
{
    struct worker *w = &c->workers[worker];
    uint8_t *record = make_room(c, w, (uint32_t)(1 + len));
    if (!record)
        return;
    record[0] = (uint8_t)kind;
    if (len)
        memcpy(record + 1, data, len);
    mailbox_commit(&w->shard.in, record, (uint32_t)(1 + len));
    c->mailed[worker] = true;
}

void office_mail_all(struct control *c, enum mail kind, const void *data, size_t len)
{
    for (unsigned i = 0; i < c->worker_count; i++)
        office_mail(c, i, kind, data, len);
}

void office_wake(struct control *c)
{
    for (unsigned i = 0; i < c->worker_count; i++) {
        if (!c->mailed[i])
            continue;
        c->mailed[i] = false;
        worker_wake(&c->workers[i]);
    }
}

/* -------------------------------------------------------------------- by a worker itself */

/* Takes frames and ports from the box. False when something is left in it, or is for the control
 * thread. */
static bool take_plain(struct control *c, struct worker *w)
{
    uint32_t len;
    const uint8_t *record;
    while ((record = mailbox_peek(&w->shard.out, &len))) {
        if (!pipe_has_room(&c->pipe) || (record[0] != MAIL_FRAME && record[0] != MAIL_PORT_FREE))
            return false;
        take(c, &w->shard.out, record, len);
    }
    return true;
}

/* If the pipe fails, the control thread finds that out by itself. */
bool office_tell(void *ctx, unsigned worker, bool now)
{
    struct control *c = ctx;
    struct worker *w = &c->workers[worker];
    if (pthread_mutex_trylock(&c->lock) != 0)
        return false;
    bool all = take_plain(c, w);
    if (now)
        all = pipe_write(&c->pipe) == 0 && pipe_waiting(&c->pipe) == 0 && all;
    if (pipe_waiting(&c->pipe) == 0)
        note_told(w);
    pthread_mutex_unlock(&c->lock);
    if (atomic_load(&w->starved))
        worker_wake(w);
    return all;
}
