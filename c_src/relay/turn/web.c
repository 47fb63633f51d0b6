/*
 * What comes from one side is looked at, sent to the other, and taken off only as far as that took
 * it. So nothing is ever held here: a side that does not read stops the other by TCP itself.
 */
#include "web.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "count.h"
#include "proxy.h"
#include "sockopt.h"

enum {
    PIECE = 32 * 1024,
    PIECES = 4, /* of one direction in a turn: then others have theirs */
};

#define CONNECT_NS (10 * NS_PER_S)
/* So long nothing need pass: who waits for an event may wait long. Who is dead is found sooner, by
 * keepalive. */
#define IDLE_NS (3600 * NS_PER_S)

/* ---------------------------------------------------------------------------------- where it goes
 */

const struct addr *web_server(const struct front *f, const struct tls_store *certs,
                              const struct hello *h)
{
    const struct addr *backend = NULL;
    enum front_verdict v = h->name_len ? front_judge(f, h->name, &backend) : FRONT_OURS;
    if (v == FRONT_WEB || (v == FRONT_UNNAMED && !tls_store_has(certs, h->name)))
        return backend;
    /* Ours by name, but a client of ours offers no protocols, or one of ours: who offers others
     * alone is a browser, and would get nothing but an alert from us (threat X99). */
    return h->offers && !h->offers_ours ? front_default(f) : NULL;
}

/* ----------------------------------------------------------------------------------------- the end
 */

static struct crowd *crowd_of(struct shard *sh)
{
    return &sh->config.limits->streams.spliced;
}

static void end(struct shard *sh, struct splice *s)
{
    crowd_leave(crowd_of(sh), &s->client);
    timer_clear(&sh->sessions.timers, &s->timer);
    io_stream_remove(sh->io, &s->sides[SPLICE_CLIENT]);
    io_stream_remove(sh->io, &s->sides[SPLICE_WEB]);
    splice_free(&sh->splices, s);
    count(sh, CTR_splices_closed);
}

static void on_due(struct timers *t, struct timer *timer)
{
    struct shard *sh =
        container_of(container_of(t, struct sessions, timers), struct shard, sessions);
    struct splice *s = container_of(timer, struct splice, timer);
    uint64_t until = s->moved + IDLE_NS;
    if (s->connected && until > sh->time.now) {
        timer_set(t, timer, until);
        return;
    }
    count_n(sh, CTR_splices_failed, !s->connected);
    end(sh, s);
}

/* ----------------------------------------------------------------------------------------- passing
 */

enum passed { PASSED_ALL, PASSED_MORE, PASSED_BROKEN };

/* The end of what one side says is the end of what the other hears. */
static enum passed pass_end(struct splice *s, enum splice_side from)
{
    s->over[from] = true;
    return shutdown(s->sides[!from].fd, SHUT_WR) == 0 ? PASSED_ALL : PASSED_BROKEN;
}

static bool is_later(void)
{
    return errno == EAGAIN || errno == EINTR;
}

static enum passed pass(struct shard *sh, struct splice *s, enum splice_side from)
{
    uint8_t *bytes = sh->splices.bytes;
    int in = s->sides[from].fd, out = s->sides[!from].fd;
    for (int i = 0; i < PIECES && !s->over[from]; i++) {
        ssize_t n = recv(in, bytes, PIECE, MSG_PEEK | MSG_DONTWAIT);
        if (n == 0)
            return pass_end(s, from);
        if (n < 0)
            return is_later() ? PASSED_ALL : PASSED_BROKEN;
        ssize_t sent = send(out, bytes, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return is_later() ? PASSED_ALL : PASSED_BROKEN;
        if (recv(in, bytes, (size_t)sent, MSG_TRUNC | MSG_DONTWAIT) != sent)
            return PASSED_BROKEN;
        s->moved = sh->time.now;
        count_n(sh, CTR_spliced_bytes, (uint64_t)sent);
        if (sent < n)
            return PASSED_ALL; /* it goes on when the other side has room */
    }
    return s->over[from] ? PASSED_ALL : PASSED_MORE;
}

static void pass_both(struct shard *sh, struct splice *s)
{
    enum passed up = pass(sh, s, SPLICE_CLIENT);
    enum passed down = up == PASSED_BROKEN ? up : pass(sh, s, SPLICE_WEB);
    if (down == PASSED_BROKEN || (s->over[SPLICE_CLIENT] && s->over[SPLICE_WEB])) {
        end(sh, s);
        return;
    }
    if (up == PASSED_MORE || down == PASSED_MORE)
        io_stream_again(sh->io, &s->sides[SPLICE_CLIENT]);
}

/* The first bytes on a connection always find room. */
static bool tell_client(struct shard *sh, const struct splice *s)
{
    uint8_t header[PROXY_BUILT_MAX];
    if (!sh->front || !sh->front->tells)
        return true;
    size_t len = proxy_build(header, &s->client, &s->server);
    return send(s->sides[SPLICE_WEB].fd, header, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

/* False while it is not there, and when it cannot be: then it has ended. */
static bool is_connected(struct shard *sh, struct splice *s)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss), err_len = sizeof(int);
    int fd = s->sides[SPLICE_WEB].fd, err = 0;
    if (s->connected)
        return true;
    bool failed = getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len) != 0 || err != 0;
    if (!failed && getpeername(fd, (struct sockaddr *)&ss, &len) != 0)
        return false;
    if (failed || !tell_client(sh, s)) {
        count(sh, CTR_splices_failed);
        end(sh, s);
        return false;
    }
    s->connected = true;
    s->moved = sh->time.now;
    timer_set(&sh->sessions.timers, &s->timer, sh->time.now + IDLE_NS);
    return true;
}

static void on_ready(struct shard *sh, struct splice *s)
{
    if (is_connected(sh, s))
        pass_both(sh, s);
}

static void on_client(void *ctx, struct io_stream *io, bool ended)
{
    (void)ended;
    on_ready(ctx, container_of(io, struct splice, sides[SPLICE_CLIENT]));
}

static void on_web(void *ctx, struct io_stream *io, bool ended)
{
    (void)ended;
    on_ready(ctx, container_of(io, struct splice, sides[SPLICE_WEB]));
}

/* --------------------------------------------------------------------------------------- the start
 */

/* On its way there; -1 when the system refuses. */
static int connect_to(const struct addr *to)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(to, &ss);
    int domain = to->family == ADDR_V4 ? AF_INET : AF_INET6;
    int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    sockopt_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    sockopt_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (connect(fd, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

/* A browser may leave a download standing for long: only for a client of ours that is the end. */
static void let_wait(int fd)
{
    sockopt_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0);
}

static bool add(struct shard *sh, struct splice *s)
{
    static const struct io_stream_handler client = {on_client}, web = {on_web};
    s->sides[SPLICE_CLIENT].handler = &client;
    s->sides[SPLICE_WEB].handler = &web;
    if (io_stream_add(sh->io, &s->sides[SPLICE_CLIENT]) != 0)
        return false;
    if (io_stream_add(sh->io, &s->sides[SPLICE_WEB]) == 0)
        return true;
    io_stream_remove(sh->io, &s->sides[SPLICE_CLIENT]);
    return false;
}

static bool start(struct shard *sh, int fd, const struct addr *client, const struct addr *server,
                  const struct addr *to)
{
    int web_fd = connect_to(to);
    struct splice *s = web_fd >= 0 ? splice_create(&sh->splices, fd, web_fd) : NULL;
    if (!s) {
        if (web_fd >= 0)
            close(web_fd);
        close(fd);
        return false;
    }
    s->client = *client;
    s->server = *server;
    s->timer.due = on_due;
    let_wait(fd);
    if (!add(sh, s)) {
        splice_free(&sh->splices, s);
        return false;
    }
    timer_set(&sh->sessions.timers, &s->timer, sh->time.now + CONNECT_NS);
    return true;
}

void web_pass(struct shard *sh, int fd, const struct addr *client, const struct addr *server,
              const struct addr *to)
{
    if (!crowd_enter(crowd_of(sh), client)) {
        count(sh, CTR_splices_refused);
        close(fd);
        return;
    }
    if (start(sh, fd, client, server, to)) {
        count(sh, CTR_spliced);
        return;
    }
    count(sh, CTR_splices_failed);
    crowd_leave(crowd_of(sh), client);
}
