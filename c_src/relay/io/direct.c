#include "direct.h"

#include <errno.h>

#include "sockopt.h"

static int send_now(const struct io_socket *s, const struct msghdr *msg)
{
    return sendmsg(s->fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

static bool says_of_another(const struct io_socket *s, int err)
{
    return s->wants_errors && errqueue_may_hold(err);
}

/* Twice, if need be: the first may fail for what became of another. */
static void send_single(struct io *io, struct runs *r, struct run *run, uint16_t index,
                        struct reports *reports)
{
    struct run_single one;
    runs_single(r, run, index, &one);
    int err = send_now(run->socket, &one.msg);
    if (err && says_of_another(run->socket, err)) {
        reports_read(reports, run->socket, NULL);
        err = send_now(run->socket, &one.msg);
    }
    if (err)
        io->events.on_error(io->events.ctx, run->socket, err);
}

void direct_again(struct io *io, struct runs *r, struct run *run, int err, struct reports *reports)
{
    bool another = says_of_another(run->socket, err);
    if (another)
        reports_read(reports, run->socket, NULL);
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

void direct_unfragmented(struct io *io, struct runs *r, struct run *run, struct reports *reports)
{
    struct io_socket *s = run->socket;
    struct run_single one;
    int old = 0; /* what ICMP said of earlier datagrams: not to be taken for this one's fate */
    socklen_t len = sizeof(old);
    runs_single(r, run, run->first, &one);
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &old, &len);
    if (old)
        reports_read(reports, s, NULL);
    /* The option must stand while the kernel builds the packet. */
    sockopt_dont_fragment(s->fd, run->to.family, true);
    int err = send_now(s, &one.msg);
    if (err) {
        reports_read(reports, s, &run->to); /* too long for the path: said as ICMP would */
        io->events.on_error(io->events.ctx, s, err);
    }
    sockopt_dont_fragment(s->fd, run->to.family, false);
}
