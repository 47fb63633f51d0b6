#include "tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "conn.h"
#include "conn_send.h"
#include "count.h"
#include "unsent.h"

enum { ACCEPTS = 64 }; /* of a listener in a turn */

/* ------------------------------------------------------------------------------------ accepting */

/* There are no descriptors left. The spare one is closed to accept a connection and close it again;
 * otherwise the kernel would tell of the same one for ever. */
static bool send_away(struct shard *sh, const struct listener *l)
{
    struct streams *t = &sh->streams;
    if (t->spare < 0)
        return false;
    close(t->spare);
    int fd = accept4(l->accept.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    t->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    count_n(sh, CTR_connections_refused, fd >= 0);
    return fd >= 0;
}

/* Where the client connected to. */
static bool read_server(struct addr *out, int fd, const struct listener *l)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (!addr_is_any(&l->local)) {
        *out = l->local;
        return true;
    }
    return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
           addr_from_sockaddr(out, (struct sockaddr *)&ss, len);
}

/* False when nobody waits. */
static bool accept_one(struct shard *sh, struct listener *l)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr client, server;
    int fd = accept4(l->accept.fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        return send_away(sh, l);
    if (fd < 0)
        return errno == ECONNABORTED || errno == EINTR;
    if (l->open && addr_from_sockaddr(&client, (struct sockaddr *)&ss, len) &&
        read_server(&server, fd, l))
        conn_open(sh, l, fd, &client, &server);
    else
        close(fd);
    return true;
}

static void on_ready(void *ctx, struct io_stream *s, bool ended)
{
    struct shard *sh = ctx;
    struct listener *l = container_of(s, struct listener, accept);
    (void)ended;
    for (int i = 0; i < ACCEPTS; i++)
        if (!accept_one(sh, l))
            return;
    io_stream_again(sh->io, s);
}

static int tcp_listen(struct shard *sh, struct listener *l)
{
    static const struct io_stream_handler handler = {on_ready};
    l->accept = (struct io_stream){.fd = l->io.fd, .handler = &handler};
    return io_stream_add(sh->io, &l->accept);
}

static void tcp_unlisten(struct shard *sh, struct listener *l)
{
    io_stream_remove(sh->io, &l->accept);
    close(l->accept.fd);
    shard_listener_closed(l);
}

/* -------------------------------------------------------------------------------------- sending */

/* NULL when the connection is gone. */
static struct stream *stream_of(const struct shard *sh, const struct flow *f)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    return LIKELY(e) ? container_of(e, struct stream, end) : NULL;
}

static void tcp_send(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len)
{
    struct stream *s = stream_of(sh, f);
    if (LIKELY(s))
        conn_put(sh, s, NULL, 0, data, len);
    else
        unsent_message(sh, f, CTR_send_failed, data, len);
}

static void tcp_send_channel(struct shard *sh, const struct flow *f, uint16_t number,
                             const struct io_packet *p)
{
    uint8_t head[CHANNEL_HEADER_LEN];
    struct stream *s = stream_of(sh, f);
    channel_put_header(head + CHANNEL_HEADER_LEN, number, p->len);
    if (LIKELY(s))
        conn_put(sh, s, head, sizeof(head), p->data, p->len);
    else
        unsent_media(sh, f, CTR_send_failed, 1, p->len);
}

static bool tcp_reach(struct shard *sh, struct listener *l, const struct addr *client,
                      const struct addr *server, struct flow *out)
{
    const struct stream *s = stream_find(&sh->streams, client, server);
    if (!s || s->state != STREAM_OPEN || s->end.listener != l)
        return false;
    *out = s->flow;
    return true;
}

static void tcp_kept(struct shard *sh, const struct flow *f, bool kept)
{
    struct way_end *e = way_resolve(&sh->ways, f->way);
    if (e)
        conn_kept(sh, container_of(e, struct stream, end), kept);
}

struct stream *tcp_stream(struct shard *sh, const struct flow *f)
{
    bool is_tcp = f->transport == &transport_tcp || f->transport == &transport_tls;
    struct way_end *e = is_tcp ? way_resolve(&sh->ways, f->way) : NULL;
    return e ? container_of(e, struct stream, end) : NULL;
}

static void tcp_hold(struct shard *sh, const struct flow *f, bool hold)
{
    struct stream *s = tcp_stream(sh, f);
    if (!s)
        return;
    s->held = hold;
    if (!hold && s->state == STREAM_OPEN)
        io_stream_again(sh->io, &s->io);
}

static const struct tls_session *tls_session_of(struct shard *sh, const struct flow *f)
{
    const struct stream *s = stream_of(sh, f);
    return s ? s->tls : NULL;
}

const struct transport transport_tcp = {
    .kind = CTL_TRANSPORT_TCP,
    .listen = tcp_listen,
    .unlisten = tcp_unlisten,
    .send = tcp_send,
    .send_channel = tcp_send_channel,
    .reach = tcp_reach,
    .kept = tcp_kept,
    .hold = tcp_hold,
    .secure = &transport_tls,
};

const struct transport transport_tls = {
    .kind = CTL_TRANSPORT_TLS,
    .listen = tcp_listen,
    .unlisten = tcp_unlisten,
    .send = tcp_send,
    .send_channel = tcp_send_channel,
    .reach = tcp_reach,
    .kept = tcp_kept,
    .hold = tcp_hold,
    .session = tls_session_of,
    .secure = &transport_tls,
};
