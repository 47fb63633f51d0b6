/*
 * Opening and closing, and system calls. Clients of a server on loopback come from addresses of
 * their own, so that neither the ports the server relays on nor its limits for one source are in
 * the way.
 */
#include "sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "crypto.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { FLOWS_PER_SOURCE = 250, PER_NET = 250, NETS = 60000 };

static int with_buffers(int fd)
{
    int size = SOCKET_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    return fd;
}

/* A non-blocking UDP socket on that address, connected to `to` unless NULL; or -errno. */
static int udp_socket(const struct addr *here, const struct addr *to, bool gro)
{
    struct sockaddr_storage ss;
    int one = 1;
    sa_family_t family = (to ? to : here)->family == ADDR_V6 ? AF_INET6 : AF_INET;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    with_buffers(fd);
    if (here && here->family && bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(here, &ss)) != 0)
        goto err_close;
    if (to && connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(to, &ss)) != 0)
        goto err_close;
    if (gro && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) != 0)
        goto err_close;
    return fd;
err_close:
    one = errno;
    close(fd);
    return -one;
}

static int address_of(int fd, struct addr *out)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
        return -errno;
    return addr_from_sockaddr(out, (struct sockaddr *)&ss, len) ? 0 : -EAFNOSUPPORT;
}

static int watch(const struct fleet *f, int fd, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    return epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int sockets_fd(const struct fleet *f, uint32_t tag)
{
    if (tag & TAG_PEER)
        return f->peer_fds[tag & ~TAG_PEER];
    if (tag & TAG_SHARED)
        return f->shared[tag & ~TAG_SHARED];
    return f->clients[tag].fd;
}

/* The nth address of this process: PER_NET of each /24 of 127.0.0.0/8. Others than the last run
 * had, for a server may remember its 5-tuples (and answer 437). */
static struct addr loopback(unsigned n)
{
    unsigned net = 2 + ((unsigned)getpid() * 7 + n / PER_NET) % NETS;
    const uint8_t ip[4] = {127, (uint8_t)(net / 256), (uint8_t)net, (uint8_t)(1 + n % PER_NET)};
    return addr_from_v4(ip, 0);
}

static bool on_loopback(const struct addr *a)
{
    return a->family == ADDR_V4 && addr_v4(a)[0] == 127;
}

/* Where the peers are unless told: the address from which the server is reached, or, when it
 * relays on the other family and is on this host, that family's loopback. */
static int default_peer(const struct options *o, struct addr *out)
{
    static const uint8_t v4[4] = {127, 0, 0, 1}, v6[16] = {[15] = 1};
    if (o->mode == MODE_SINK) {
        *out = addr_from_v4(v4, 0);
        return 0;
    }
    int fd = udp_socket(NULL, &o->servers[0], false);
    int err = fd < 0 ? fd : address_of(fd, out);
    if (fd >= 0)
        close(fd);
    if (err == 0 && o->family && (o->family == 6) != (out->family == ADDR_V6)) {
        if (!addr_ip_equal(out, &o->servers[0]))
            return -EDESTADDRREQ;
        *out = o->family == 6 ? addr_from_v6(v6, 0) : addr_from_v4(v4, 0);
    }
    out->port = 0;
    return err;
}

static int open_peers(struct fleet *f)
{
    struct addr at = f->o->peer;
    char text[ADDR_TEXT_MAX];
    int err = at.family ? 0 : default_peer(f->o, &at);
    for (unsigned i = 0; err == 0 && i < f->o->channels; i++) {
        int fd = udp_socket(&at, NULL, f->o->gro);
        if (fd < 0) {
            err = fd;
            break;
        }
        f->peer_fds[i] = fd;
        f->peer_count = i + 1;
        err = address_of(fd, &f->peers[i]);
        if (err == 0)
            err = watch(f, fd, TAG_PEER | i);
    }
    if (err == -EDESTADDRREQ)
        fprintf(stderr, "meerkat_bench: --family %u: tell by --peer where the peers are\n",
                f->o->family);
    else if (err)
        fprintf(stderr, "meerkat_bench: peer on %s: %s\n", addr_format_ip(&at, text),
                strerror(-err));
    return err;
}

static int open_shared(struct fleet *f)
{
    static const uint8_t any[4];
    struct addr here = addr_from_v4(any, 0);
    f->shared = calloc(f->o->clients + 1, sizeof(int));
    for (unsigned i = 0; f->shared && i < f->o->clients; i++) {
        f->shared[i] = udp_socket(&here, NULL, f->o->gro);
        int err = f->shared[i] < 0 ? f->shared[i] : watch(f, f->shared[i], TAG_SHARED | i);
        if (err) {
            fprintf(stderr, "meerkat_bench: client socket: %s\n", strerror(-err));
            return err;
        }
    }
    return f->shared ? 0 : -ENOMEM;
}

/* As many descriptors as there may be sockets; what cannot be had shows when one is opened. */
static void raise_limit(unsigned sockets)
{
    struct rlimit limit;
    rlim_t wanted = sockets + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    limit.rlim_max = MAX(limit.rlim_max, wanted);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int fleet_open(struct fleet *f, const struct options *o, unsigned size)
{
    *f = (struct fleet){.o = o,
                        .login = {.user = o->user, .password = o->password},
                        .raw = o->mode == MODE_SINK,
                        .size = size};
    raise_limit(o->clients ? o->clients : size);
    f->clients = calloc(size, sizeof(*f->clients));
    f->active = calloc(size, sizeof(*f->active));
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!f->clients || !f->active || f->epoll < 0) {
        fprintf(stderr, "meerkat_bench: no memory for %u clients\n", size);
        return -1;
    }
    for (unsigned i = 0; i < size; i++) {
        f->clients[i].index = i;
        f->clients[i].fd = -1;
    }
    return open_peers(f) || (o->clients && open_shared(f)) ? -1 : 0;
}

void fleet_close(struct fleet *f)
{
    for (unsigned i = 0; f->clients && i < f->size; i++)
        fleet_client_close(f, &f->clients[i]);
    for (unsigned i = 0; i < f->peer_count; i++)
        close(f->peer_fds[i]);
    for (unsigned i = 0; f->shared && i < f->o->clients; i++)
        close(f->shared[i]);
    close(f->epoll);
    free(f->shared);
    free(f->active);
    free(f->clients);
    crypto_zero(&f->login.key, sizeof(f->login.key));
}

/* Neighbours share a socket, so that what they send can leave together. */
static unsigned flows_per_socket(const struct fleet *f)
{
    return (f->size + f->o->clients - 1) / f->o->clients;
}

/* Each allocation cycle has an address of its own: servers remember 5-tuples for a while. */
static struct addr client_source(const struct fleet *f, const struct turn_client *c)
{
    const struct options *o = f->o;
    unsigned n = f->sockets_opened;
    if (f->raw || !on_loopback(fleet_server(f, c)))
        return (struct addr){0};
    if (o->clients)
        return loopback(n % flows_per_socket(f));
    if (o->mode == MODE_ALLOCATIONS && !o->sources)
        return loopback(n);
    return loopback(n % (o->sources ? o->sources : 1 + f->size / FLOWS_PER_SOURCE));
}

static int open_own(struct fleet *f, struct turn_client *c, const struct addr *source)
{
    const struct addr *to = f->raw ? &f->peers[0] : fleet_server(f, c);
    int fd = udp_socket(source, to, f->o->gro);
    if (fd < 0)
        return fd;
    int err = watch(f, fd, c->index);
    if (err == 0 && f->raw)
        err = address_of(fd, &c->relayed);
    if (err) {
        close(fd);
        return err;
    }
    c->allocated = f->raw;
    c->fd = fd;
    c->owns_fd = true;
    return 0;
}

int fleet_client_open(struct fleet *f, struct turn_client *c)
{
    struct addr source = client_source(f, c);
    unsigned n = f->sockets_opened++;
    if (!f->o->clients)
        return open_own(f, c, &source);
    c->source = source;
    c->fd = f->shared[n / flows_per_socket(f)];
    return 0;
}

void fleet_client_close(struct fleet *f, struct turn_client *c)
{
    (void)f;
    if (c->owns_fd)
        close(c->fd);
    c->owns_fd = false;
    c->fd = -1;
}

void socket_control(struct msghdr *m, uint8_t control[SOCKET_CONTROL], const struct addr *source,
                    unsigned segment)
{
    size_t used = 0;
    if (source && source->family) {
        struct in_pktinfo info = {0};
        struct cmsghdr h = {CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO};
        memcpy(&info.ipi_spec_dst, addr_v4(source), 4);
        memcpy(control, &h, sizeof(h));
        memcpy(control + CMSG_LEN(0), &info, sizeof(info));
        used = CMSG_SPACE(sizeof(info));
    }
    if (segment) {
        uint16_t size = (uint16_t)segment;
        struct cmsghdr h = {CMSG_LEN(sizeof(size)), IPPROTO_UDP, UDP_SEGMENT};
        memcpy(control + used, &h, sizeof(h));
        memcpy(control + used + CMSG_LEN(0), &size, sizeof(size));
        used += CMSG_SPACE(sizeof(size));
    }
    m->msg_control = used ? control : NULL;
    m->msg_controllen = used;
}

int socket_send(int fd, const struct addr *source, const struct addr *to, const void *data,
                size_t len)
{
    struct sockaddr_storage ss;
    uint8_t control[SOCKET_CONTROL];
    struct iovec part = {(void *)(uintptr_t)data, len};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (source->family) {
        m.msg_name = &ss;
        m.msg_namelen = addr_to_sockaddr(to, &ss);
    }
    socket_control(&m, control, source, 0);
    return sendmsg(fd, &m, 0) < 0 ? -errno : 0;
}

/* How large the datagrams of a run are; 0 when it is one datagram. */
static size_t segment_size(struct msghdr *m)
{
    int size = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h))
        if (h->cmsg_level == IPPROTO_UDP && h->cmsg_type == UDP_GRO)
            memcpy(&size, CMSG_DATA(h), sizeof(size));
    return size > 0 ? (size_t)size : 0;
}

/* One thread receives, into the same memory each time. */
static uint8_t buffers[SOCKET_BATCH][65536];
static uint8_t controls[SOCKET_BATCH][CMSG_SPACE(sizeof(int))];

static void prepare(struct mmsghdr *messages, struct iovec *parts, bool gro)
{
    for (unsigned i = 0; i < SOCKET_BATCH; i++) {
        parts[i] = (struct iovec){buffers[i], sizeof(buffers[i])};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i],
                                              .msg_iovlen = 1,
                                              .msg_control = gro ? controls[i] : NULL,
                                              .msg_controllen = gro ? sizeof(controls[i]) : 0};
    }
}

int socket_receive(int fd, bool gro, uint32_t tag,
                   void (*take)(void *ctx, uint32_t tag, const uint8_t *data, size_t len,
                                uint64_t now),
                   void *ctx)
{
    static struct mmsghdr messages[SOCKET_BATCH];
    static struct iovec parts[SOCKET_BATCH];
    static bool prepared;
    if (gro || !prepared)
        prepare(messages, parts, gro);
    prepared = true;
    int n = recvmmsg(fd, messages, SOCKET_BATCH, MSG_DONTWAIT, NULL);
    if (n < 0)
        return -errno;
    uint64_t now = fleet_now();
    for (int i = 0; i < n; i++) {
        size_t len = messages[i].msg_len;
        size_t step = gro ? segment_size(&messages[i].msg_hdr) : 0;
        if (step == 0)
            step = len;
        for (size_t at = 0; at < len; at += step)
            take(ctx, tag, buffers[i] + at, MIN(step, len - at), now);
    }
    return n;
}
