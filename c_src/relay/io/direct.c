#include "direct.h"

#include <errno.h>

#include "sockopt.h"

static int send_now(const struct io_socket *s, const struct msghdr *msg)
{
    return sendmsg(s->fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

/* Was the error said of an earlier datagram? The kernel says what ICMP reports to whichever call
 * comes next. What was said is kept for the owner. */
static bool was_of_another(const struct run *run, int err, struct reports *reports)
{
    struct io_socket *s = run->socket;
    return s->wants_errors && errqueue_may_hold(err) && reports_read(reports, s, &run->to);
}

static void tell(const struct io *io, const struct runs *r, const struct run *run, uint16_t index,
                 int err)
{
    const struct outgoing *out = &r->out[index];
    const struct io_unsent u = {
        .err = err,
        .to = &run->to,
        .from = &run->from,
        .start = out->head_len ? out->head : out->data,
        .start_len = out->head_len ? out->head_len : out->len,
        .len = out->head_len + out->len,
    };
    run->socket->handler->on_unsent(io->events.ctx, run->socket, &u);
}

/* Tried twice: the first call may fail with the ICMP error of an earlier datagram. */
static void send_single(struct io *io, struct runs *r, struct run *run, uint16_t index,
                        struct reports *reports)
{
    struct run_single one;
    runs_single(r, run, index, &one);
    int err = send_now(run->socket, &one.msg);
    if (err && was_of_another(run, err, reports))
        err = send_now(run->socket, &one.msg);
    if (err)
        tell(io, r, run, index, err);
}

void direct_again(struct io *io, struct runs *r, struct run *run, int err, struct reports *reports)
{
    bool another = was_of_another(run, err, reports);
    if (another && run->count > 1 && (err = send_now(run->socket, &run->msg)) == 0)
        return;
    bool refused = runs_refuse(r, run, err);
    bool again = refused || another;
    io->counts.gso_refused += refused;
    for (uint32_t at = run->first + 1u; at; at = r->out[at - 1].next) {
        if (again)
            send_single(io, r, run, (uint16_t)(at - 1), reports);
        else
            tell(io, r, run, (uint16_t)(at - 1), err);
    }
}

void direct_keep_whole(struct io_socket *s, uint8_t family, bool whole)
{
    if (sockopt_dont_fragment(s->fd, family, whole) == 0)
        s->whole = whole;
}
