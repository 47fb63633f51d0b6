/*
 * One connection. OpenSSL has the socket; what is read is cut by frame.c.
 */
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

SSL_CTX *stream_tls(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx)
        return NULL;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

bool stream_open(struct stream *s, const struct addr *server, SSL_CTX *tls)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(server, &ss);
    int yes = 1;
    s->have = s->at = 0;
    s->ssl = NULL;
    s->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return false;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (connect(s->fd, (struct sockaddr *)&ss, len) != 0)
        goto err;
    if (tls) {
        s->ssl = SSL_new(tls);
        if (!s->ssl || SSL_set_fd(s->ssl, s->fd) != 1 || SSL_connect(s->ssl) != 1)
            goto err;
    }
    return true;
err:
    stream_close(s);
    return false;
}

void stream_close(struct stream *s)
{
    SSL_free(s->ssl);
    s->ssl = NULL;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

bool stream_write(struct stream *s, const void *data, size_t len)
{
    const uint8_t *p = data;
    size_t n;
    if (s->ssl)
        return SSL_write_ex(s->ssl, data, len, &n) == 1 && n == len;
    for (size_t done = 0; done < len;) {
        ssize_t sent = send(s->fd, p + done, len - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        done += sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

int stream_fill(struct stream *s)
{
    memmove(s->in, s->in + s->at, s->have - s->at);
    s->have -= s->at;
    s->at = 0;
    if (s->ssl) {
        size_t n = 0;
        if (SSL_read_ex(s->ssl, s->in + s->have, STREAM_IN - s->have, &n) != 1)
            return SSL_get_error(s->ssl, 0) == SSL_ERROR_WANT_READ ? 0 : -1;
        s->have += n;
        return 1;
    }
    ssize_t n = recv(s->fd, s->in + s->have, STREAM_IN - s->have, 0);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    s->have += (size_t)n;
    return 1;
}

bool stream_next(struct stream *s, const uint8_t **data, struct frame *frame)
{
    if (frame_next(s->in + s->at, s->have - s->at, 0x7fff, frame) != FRAME_WHOLE)
        return false;
    *data = s->in + s->at;
    s->at += frame->size;
    return true;
}

/* The next message that is STUN; false when the connection is closed. */
static bool next_message(struct stream *s, struct stun_view *v)
{
    const uint8_t *data;
    struct frame frame;
    for (;;) {
        while (stream_next(s, &data, &frame))
            if (stun_parse(v, data, frame.len) == STUN_OK)
                return true;
        if (stream_fill(s) < 0)
            return false;
    }
}

bool stream_binding(struct stream *s)
{
    static const uint8_t txid[STUN_TXID_LEN] = "a binding";
    uint8_t request[64];
    struct stun_builder b;
    struct stun_view v;
    stun_build_start(&b, request, sizeof(request), STUN_REQUEST, STUN_BINDING, txid);
    return stream_write(s, request, stun_build_end(&b)) && next_message(s, &v) &&
           v.cls == STUN_SUCCESS;
}

int stream_plan(struct stream *s, struct turn_login *login, const enum turn_step *plan,
                const struct addr *peer)
{
    struct turn_client *c = &s->turn;
    struct stun_view v;
    for (c->plan = plan; *c->plan != STEPS; c->plan++) {
        int outcome = TURN_AGAIN;
        for (c->challenges = 0; outcome == TURN_AGAIN;) {
            outcome = turn_request(login, c, peer, 0);
            if (outcome != TURN_WELL)
                return outcome;
            if (!stream_write(s, c->request, c->request_len))
                return TURN_NO_ANSWER;
            c->waiting = true;
            do
                if (!next_message(s, &v))
                    return TURN_NO_ANSWER;
            while (!turn_is_answer(c, &v));
            outcome = turn_answer(login, c, &v);
        }
        if (outcome != TURN_WELL)
            return outcome;
    }
    return TURN_WELL;
}
