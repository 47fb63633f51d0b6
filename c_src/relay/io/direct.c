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

/* Twice, if need be: the first may fail for what became of another. */
static void send_single(struct io *io, struct runs *r, struct run *run, uint16_t index,
                        struct reports *reports)
{
    struct run_single one;
    runs_single(r, run, index, &one);
    int err = send_now(run->socket, &one.msg);
    if (err && was_of_another(run, err, reports))
        err = send_now(run->socket, &one.msg);
    if (err)
        io->events.on_error(io->events.ctx, run->socket, err);
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
            io->events.on_error(io->events.ctx, run->socket, err);
    }
}

void direct_keep_whole(struct io_socket *s, uint8_t family, bool whole)
{
    if (sockopt_dont_fragment(s->fd, family, whole) == 0)
        s->whole = whole;
}
