#include "conn_begin.h"

#include <errno.h>

#include "count.h"
#include "http.h"
#include "web.h"

/* The first byte of TLS: a record with a handshake message (RFC 8446 5.1). */
enum { HANDSHAKE_RECORD = 22 };

_Static_assert((int)HELLO_MAX <= STREAM_NET && (int)HELLO_MAX <= STREAM_SEND &&
                   (int)PROXY_HEADER_MAX <= STREAM_NET,
               "what is looked at fits the memory for it");

/* What has come, from its beginning on, into the buffer for the network's; as recv. */
static ssize_t look(struct shard *sh, const struct stream *s, size_t max)
{
    return recv(s->io.fd, sh->streams.net, max, MSG_PEEK | MSG_DONTWAIT);
}

/* There is nothing, n as of recv. */
static enum conn_begin nothing(ssize_t n, bool ended)
{
    bool later = n < 0 && (errno == EAGAIN || errno == EINTR) && !ended;
    return later ? CONN_BEGIN_WAIT : CONN_BEGIN_GONE;
}

static enum conn_begin bad(struct shard *sh, enum counter reason)
{
    count(sh, reason);
    return CONN_BEGIN_BAD;
}

/* A hello that is broken OpenSSL refuses, and says so to the client. */
static enum conn_begin judge_hello(struct shard *sh, const struct stream *s, size_t len, bool ended,
                                   const struct addr **web)
{
    struct hello h;
    switch (hello_read(sh->streams.net, len, sh->streams.plain, &h)) {
    case HELLO_MORE:
        return ended ? CONN_BEGIN_GONE : CONN_BEGIN_WAIT;
    case HELLO_WHOLE:
        *web = web_server(sh->front, s->end.listener->certs, &h);
        return *web ? CONN_BEGIN_WEB : CONN_BEGIN_TLS;
    default:
        return CONN_BEGIN_TLS;
    }
}

/* What begins otherwise than TLS, at a listener that takes nothing else. */
static enum conn_begin judge_plain(struct shard *sh, size_t len)
{
    return http_begins(sh->streams.net, len) ? CONN_BEGIN_HTTP : bad(sh, CTR_connections_bad);
}

enum conn_begin conn_begin(struct shard *sh, const struct stream *s, bool ended,
                           const struct addr **web)
{
    const struct transport *t = s->flow.transport;
    ssize_t n = look(sh, s, HELLO_MAX);
    if (n <= 0)
        return nothing(n, ended);
    if (sh->streams.net[0] == HANDSHAKE_RECORD && s->end.listener->certs)
        return front_reads_hello(sh->front) ? judge_hello(sh, s, (size_t)n, ended, web)
                                            : CONN_BEGIN_TLS;
    if (proxy_seems(sh->streams.net, (size_t)n))
        return bad(sh, CTR_proxy_stranger);
    return t->secure == t ? judge_plain(sh, (size_t)n) : CONN_BEGIN_STUN;
}

enum conn_begin conn_begin_header(struct shard *sh, const struct stream *s, bool ended,
                                  struct proxy_header *out)
{
    ssize_t n = look(sh, s, PROXY_HEADER_MAX);
    if (n <= 0)
        return nothing(n, ended);
    switch (proxy_read(sh->streams.net, (size_t)n, out)) {
    case PROXY_MORE:
        return ended || n == PROXY_HEADER_MAX ? bad(sh, CTR_proxy_header) : CONN_BEGIN_WAIT;
    case PROXY_WHOLE:
        break;
    default:
        return bad(sh, CTR_proxy_header);
    }
    n = recv(s->io.fd, sh->streams.net, out->len, MSG_DONTWAIT);
    return n == (ssize_t)out->len ? CONN_BEGIN_STUN : CONN_BEGIN_GONE;
}
