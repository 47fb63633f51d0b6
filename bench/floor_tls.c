/*
 * The floor of connections over TLS: the least that a handshake and one Binding can cost who uses
 * OpenSSL. One thread takes a connection, shakes hands, answers, waits for its end and takes the
 * next; it has no limit, no deadline and no second client meanwhile. It is what others are measured
 * against on a loopback, and no server for anybody.
 *
 *     floor_tls PORT CERTIFICATE KEY
 *
 * It listens on 127.0.0.1. Another thread answers over UDP, by which it is seen to be there.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stun.h"

enum { MESSAGE_MAX = 1500, BACKLOG = 128 };

struct peer {
    struct sockaddr_storage name;
    socklen_t len;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* The answer to a Binding; its length. */
static size_t answer(uint8_t *message, size_t len, const struct peer *from, uint8_t *out)
{
    struct stun_view v;
    struct stun_builder b;
    struct addr mapped;
    if (stun_parse(&v, message, len) != STUN_OK ||
        !addr_from_sockaddr(&mapped, (const struct sockaddr *)&from->name, from->len))
        return 0;
    stun_build_response(&b, out, MESSAGE_MAX, STUN_SUCCESS, &v);
    stun_put_addr(&b, A_xor_mapped_address, &mapped);
    return stun_build_end(&b);
}

static int bound(int type, uint16_t port)
{
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
        fail("a socket");
    return fd;
}

static void *answer_datagrams(void *arg)
{
    uint8_t in[MESSAGE_MAX], out[MESSAGE_MAX];
    for (;;) {
        struct peer from = {.len = sizeof(from.name)};
        struct sockaddr *name = (struct sockaddr *)&from.name;
        ssize_t n = recvfrom(*(int *)arg, in, sizeof(in), 0, name, &from.len);
        size_t len = n > 0 ? answer(in, (size_t)n, &from, out) : 0;
        if (len)
            sendto(*(int *)arg, out, len, 0, name, from.len);
    }
    return NULL;
}

/* As Meerkat's: the cipher that is fastest, one ticket, no buffers for who is silent. */
static SSL_CTX *context(const char *certificate, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1)
        fail("a certificate");
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1);
    return ctx;
}

static void serve(SSL_CTX *ctx, int fd, const struct peer *from)
{
    uint8_t in[MESSAGE_MAX], out[MESSAGE_MAX];
    SSL *ssl = SSL_new(ctx);
    int n;
    if (ssl && SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1) {
        while ((n = SSL_read(ssl, in, sizeof(in))) > 0)
            SSL_write(ssl, out, (int)answer(in, (size_t)n, from, out));
        SSL_shutdown(ssl); /* its own end, which RFC 8446 6.1 asks for */
    }
    ERR_clear_error();
    SSL_free(ssl);
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: floor_tls PORT CERTIFICATE KEY\n");
        return 2;
    }
    uint16_t port = (uint16_t)strtoul(argv[1], NULL, 10);
    int datagrams = bound(SOCK_DGRAM, port), listener = bound(SOCK_STREAM, port), on = 1;
    SSL_CTX *ctx = context(argv[2], argv[3]);
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (listen(listener, BACKLOG) < 0 ||
        pthread_create(&thread, NULL, answer_datagrams, &datagrams) != 0)
        fail("floor_tls");
    for (;;) {
        struct peer from = {.len = sizeof(from.name)};
        int fd = accept(listener, (struct sockaddr *)&from.name, &from.len);
        if (fd >= 0)
            serve(ctx, fd, &from);
    }
}
