/*
 * The floor: the least that a relay of UDP with one recvfrom and one sendto per packet can cost.
 * One thread sleeps in epoll; each allocation has a socket; a packet is read, looked up in a plain
 * table and written. No permission, no expiry, no limit, no counter, no authentication: who asks
 * is given. It is what others are measured against on a loopback, and no server for anybody.
 *
 *     floor PORT [batches]
 *
 * It listens on 127.0.0.1 and on ::1, and prints "ready" when it does. Allocations lie on
 * 127.0.0.1, or on ::1 for who asks for IPv6.
 *
 * Between two of its clients on IPv4 that have channels to each other a packet takes one hop: it
 * leaves for the other client as it came, under the other's number. With `batches` clients' packets
 * are read by recvmmsg and leave by sendmmsg, as runs where the kernel has joined them (UDP_GRO,
 * UDP_SEGMENT): the least that such a packet can cost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stun.h"

enum {
    SLOTS = 1 << 18, /* of the table of clients */
    CHANNELS = 16,   /* of a client, and peers that it reaches without one */
    EVENTS = 64,
    AT_ONCE = 64, /* datagrams from clients before the peers' turn */
    DATAGRAM_MAX = 65536,
    LISTENER_BUFFER = 8 << 20,
    RELAYED_BUFFER = 1 << 20,
    LIFETIME = 600,
};

union name {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_storage room;
};

struct channel {
    uint16_t number;
    socklen_t len;
    union name peer;
    uint16_t back; /* the number by which the peer, a client, has this one; 0: not looked for */
    struct client *client;
};

struct client {
    union name name;
    socklen_t len;
    int listener; /* where it came to */
    int relayed;  /* -1: deleted, the row waits for its client to come again */
    unsigned channels;
    struct channel channel[CHANNELS];
};

static struct client *table[SLOTS];
static struct client *by_relayed_port[1 << 16]; /* of 127.0.0.1 */
static int listeners[2], poller;                /* IPv4, IPv6 */
static uint8_t room[STUN_DATA_ROOM_V6 + DATAGRAM_MAX + STUN_DATA_TAIL];
static uint8_t *const datagram = room + STUN_DATA_ROOM_V6;

/* -------------------------------------------------------------------------------------- tables */

static bool same(const union name *a, const union name *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    return a->in6.sin6_port == b->in6.sin6_port &&
           memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
}

static uint32_t hash(const union name *n)
{
    uint32_t ip =
        n->sa.sa_family == AF_INET ? n->in.sin_addr.s_addr : n->in6.sin6_addr.s6_addr32[3];
    return ((ip ^ (uint32_t)n->in.sin_port << 15) * 0x9e3779b1u) >> 14;
}

/* Where the client is, or would be. */
static struct client **client_slot(const union name *n)
{
    uint32_t i = hash(n);
    while (table[i] && !same(&table[i]->name, n))
        i = (i + 1) & (SLOTS - 1);
    return &table[i];
}

static struct channel *channel_by_number(struct client *c, uint16_t number)
{
    for (unsigned i = 0; i < c->channels; i++)
        if (c->channel[i].number == number)
            return &c->channel[i];
    return NULL;
}

static struct channel *channel_by_peer(struct client *c, const union name *peer)
{
    for (unsigned i = 0; i < c->channels; i++)
        if (same(&c->channel[i].peer, peer))
            return &c->channel[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------- sockets */

static int bound(const char *ip, uint16_t port, int buffer)
{
    struct addr a;
    union name n;
    if (!addr_parse(&a, ip, port))
        return -1;
    socklen_t len = addr_to_sockaddr(&a, &n.room);
    int fd = socket(n.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, &n.sa, len) < 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    return fd;
}

/* Events come with `what`: an element of listeners[], or the client of a relayed socket. */
static bool watch(int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0;
}

static struct addr local_addr(int fd)
{
    union name n;
    socklen_t len = sizeof(n);
    struct addr a = {0};
    if (getsockname(fd, &n.sa, &len) == 0)
        addr_from_sockaddr(&a, &n.sa, len);
    return a;
}

/* ------------------------------------------------------------------------------------ requests */

static uint64_t number_of(const struct stun_view *v, enum stun_attr_id id, uint64_t otherwise)
{
    uint64_t n = otherwise;
    stun_get_uint(v, id, &n);
    return n;
}

static bool allocate(struct client *c, const struct stun_view *v)
{
    if (c->relayed >= 0)
        return true;
    bool v6 = number_of(v, A_requested_address_family, 1) == 2;
    c->channels = 0;
    c->relayed = bound(v6 ? "::1" : "127.0.0.1", 0, RELAYED_BUFFER);
    if (c->relayed >= 0 && !v6)
        by_relayed_port[local_addr(c->relayed).port] = c;
    return c->relayed >= 0 && watch(c->relayed, c);
}

static void refresh(struct client *c, const struct stun_view *v)
{
    if (number_of(v, A_lifetime, LIFETIME) == 0 && c->relayed >= 0) {
        by_relayed_port[local_addr(c->relayed).port] = NULL;
        close(c->relayed);
        c->relayed = -1;
    }
}

static bool bind_channel(struct client *c, const struct stun_view *v)
{
    struct addr peer;
    uint16_t number = (uint16_t)number_of(v, A_channel_number, 0);
    if (stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK)
        return false;
    struct channel *ch = channel_by_number(c, number);
    if (!ch && c->channels == CHANNELS)
        return false;
    if (!ch)
        ch = &c->channel[c->channels++];
    ch->number = number;
    ch->len = addr_to_sockaddr(&peer, &ch->peer.room);
    ch->back = 0;
    return true;
}

static bool done(struct client *c, const struct stun_view *v)
{
    switch (v->method) {
    case STUN_ALLOCATE:
        return allocate(c, v);
    case STUN_REFRESH:
        refresh(c, v);
        return true;
    case STUN_CHANNEL_BIND:
        return bind_channel(c, v);
    default:
        return true;
    }
}

static void answer(struct client *c, const struct stun_view *v)
{
    uint8_t out[256];
    struct stun_builder b;
    bool ok = done(c, v);
    stun_build_response(&b, out, sizeof(out), ok ? STUN_SUCCESS : STUN_ERROR, v);
    if (!ok)
        stun_put_error(&b, 508, NULL);
    if (ok && v->method == STUN_ALLOCATE) {
        struct addr mapped = {0}, relayed = local_addr(c->relayed);
        addr_from_sockaddr(&mapped, &c->name.sa, c->len);
        stun_put_addr(&b, A_xor_relayed_address, &relayed);
        stun_put_addr(&b, A_xor_mapped_address, &mapped);
    }
    if (ok && v->method != STUN_CHANNEL_BIND)
        stun_put_uint(&b, A_lifetime, LIFETIME);
    size_t len = stun_build_end(&b);
    sendto(c->listener, out, len, 0, &c->name.sa, c->len);
}

static struct client *client_get(const union name *n, socklen_t len, int listener)
{
    struct client **slot = client_slot(n);
    if (!*slot && (*slot = calloc(1, sizeof(**slot)))) {
        (*slot)->name = *n;
        (*slot)->len = len;
        (*slot)->listener = listener;
        (*slot)->relayed = -1;
    }
    return *slot;
}

static void send_indication(const struct stun_view *v, const union name *from)
{
    struct client *c = *client_slot(from);
    struct addr peer;
    union name to;
    const uint8_t *payload;
    size_t len;
    if (!c || stun_get_addr(v, A_xor_peer_address, &peer) != STUN_OK ||
        stun_get_bytes(v, A_data, &payload, &len) != STUN_OK)
        return;
    socklen_t to_len = addr_to_sockaddr(&peer, &to.room);
    sendto(c->relayed, payload, len, 0, &to.sa, to_len);
}

static void message(size_t n, const union name *from, socklen_t len, int listener)
{
    struct stun_view v;
    struct client *c;
    if (stun_parse(&v, datagram, n) != STUN_OK)
        return;
    if (v.cls == STUN_INDICATION)
        send_indication(&v, from);
    else if (v.cls == STUN_REQUEST && (c = client_get(from, len, listener)))
        answer(c, &v);
}

/* ---------------------------------------------------------------------------------- forwarding */

/* The other client, if the channel leads to one that has a channel back. Nothing is looked at again
 * once that is known: it holds for as long as clients change nothing. */
static struct client *joined(struct client *c, struct channel *ch)
{
    union name relayed;
    if (ch->back)
        return ch->client;
    struct client *other =
        ch->peer.sa.sa_family == AF_INET ? by_relayed_port[ntohs(ch->peer.in.sin_port)] : NULL;
    if (!other || ch->peer.in.sin_addr.s_addr != htonl(INADDR_LOOPBACK))
        return NULL;
    struct addr own = local_addr(c->relayed);
    addr_to_sockaddr(&own, &relayed.room);
    struct channel *back = channel_by_peer(other, &relayed);
    if (!back)
        return NULL;
    ch->client = other;
    ch->back = back->number;
    return other;
}

static void channel_data(size_t n, const union name *from)
{
    uint16_t number;
    const uint8_t *payload;
    size_t len;
    struct client *c = *client_slot(from);
    if (!c || !channel_parse(datagram, n, &number, &payload, &len))
        return;
    struct channel *ch = channel_by_number(c, number);
    if (!ch)
        return;
    struct client *other = joined(c, ch);
    if (other) {
        store16(datagram, ch->back);
        sendto(other->listener, datagram, n, 0, &other->name.sa, other->len);
    } else {
        sendto(c->relayed, payload, len, 0, &ch->peer.sa, ch->len);
    }
}

static void from_clients(int listener)
{
    union name from;
    for (int i = 0; i < AT_ONCE; i++) {
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(listener, datagram, DATAGRAM_MAX, 0, &from.sa, &len);
        if (n < 0)
            return;
        if (n && stun_demux(datagram[0]) == DEMUX_CHANNEL)
            channel_data((size_t)n, &from);
        else if (n)
            message((size_t)n, &from, len, listener);
    }
}

/* ------------------------------------------------------------------------------------- batches */

static struct mmsghdr come[AT_ONCE], go[AT_ONCE];
static struct iovec come_iov[AT_ONCE], go_iov[AT_ONCE];
static union name come_name[AT_ONCE];
static union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(sizeof(int))];
} come_control[AT_ONCE], go_control[AT_ONCE];
static uint8_t come_data[AT_ONCE][DATAGRAM_MAX];

static bool take_runs(int fd)
{
    int on = 1;
    return setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0;
}

/* How long each datagram of what came is, but the last. */
static size_t run_of(struct mmsghdr *m)
{
    int size = (int)m->msg_len;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m->msg_hdr); c; c = CMSG_NXTHDR(&m->msg_hdr, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            memcpy(&size, CMSG_DATA(c), sizeof(size));
    return (size_t)size;
}

/* All of one flow and, as here, of one channel: who joins does not ask. */
static bool forward_run(const union name *from, uint8_t *data, size_t len, size_t each, unsigned at)
{
    struct client *c = *client_slot(from), *other;
    struct channel *ch = c ? channel_by_number(c, load16(data)) : NULL;
    if (!ch || !(other = joined(c, ch)))
        return false;
    for (size_t done = 0; done < len; done += each)
        store16(data + done, ch->back);
    go_iov[at] = (struct iovec){data, len};
    struct msghdr *h = &go[at].msg_hdr;
    *h = (struct msghdr){.msg_name = &other->name,
                         .msg_namelen = other->len,
                         .msg_iov = &go_iov[at],
                         .msg_iovlen = 1};
    if (each < len) {
        h->msg_control = &go_control[at];
        h->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
        struct cmsghdr *cm = CMSG_FIRSTHDR(h);
        *cm = (struct cmsghdr){CMSG_LEN(sizeof(uint16_t)), SOL_UDP, UDP_SEGMENT};
        *(uint16_t *)(void *)CMSG_DATA(cm) = (uint16_t)each;
    }
    return true;
}

static void each_by_itself(const uint8_t *data, size_t len, size_t each, const union name *from,
                           socklen_t from_len, int listener)
{
    for (size_t done = 0; done < len; done += each) {
        size_t n = MIN(each, len - done);
        memcpy(datagram, data + done, n);
        if (stun_demux(datagram[0]) == DEMUX_CHANNEL)
            channel_data(n, from);
        else
            message(n, from, from_len, listener);
    }
}

static void batch_from_clients(int listener)
{
    for (unsigned i = 0; i < AT_ONCE; i++) {
        come_iov[i] = (struct iovec){come_data[i], DATAGRAM_MAX};
        come[i].msg_hdr = (struct msghdr){.msg_name = &come_name[i],
                                          .msg_namelen = sizeof(come_name[i]),
                                          .msg_iov = &come_iov[i],
                                          .msg_iovlen = 1,
                                          .msg_control = &come_control[i],
                                          .msg_controllen = sizeof(come_control[i])};
    }
    int n = recvmmsg(listener, come, AT_ONCE, 0, NULL);
    unsigned send = 0, sent = 0;
    for (int i = 0; i < n; i++) {
        size_t len = come[i].msg_len, each = run_of(&come[i]);
        if (len == 0)
            continue;
        if (stun_demux(come_data[i][0]) == DEMUX_CHANNEL &&
            forward_run(&come_name[i], come_data[i], len, each, send))
            send++;
        else
            each_by_itself(come_data[i], len, each, &come_name[i], come[i].msg_hdr.msg_namelen,
                           listener);
    }
    while (sent < send) {
        int did = sendmmsg(listener, go + sent, send - sent, 0);
        sent += did > 0 ? (unsigned)did : 1u; /* what cannot be sent is lost */
    }
}

/* ----------------------------------------------------------------------------------- from peers */

static void indication(struct client *c, const union name *peer, socklen_t peer_len, size_t n)
{
    static const uint8_t txid[STUN_TXID_LEN];
    struct addr from;
    size_t len;
    if (!addr_from_sockaddr(&from, &peer->sa, peer_len))
        return;
    uint8_t *out = stun_wrap_data(datagram, n, &from, txid, &len);
    if (out)
        sendto(c->listener, out, len, 0, &c->name.sa, c->len);
}

/* One datagram; epoll comes back for the next. */
static void from_peer(struct client *c)
{
    union name peer;
    socklen_t len = sizeof(peer);
    ssize_t n = recvfrom(c->relayed, datagram, DATAGRAM_MAX, 0, &peer.sa, &len);
    if (n < 0)
        return;
    struct channel *ch = channel_by_peer(c, &peer);
    if (!ch) {
        indication(c, &peer, len, (size_t)n);
        return;
    }
    channel_put_header(datagram, ch->number, (size_t)n);
    sendto(c->listener, datagram - CHANNEL_HEADER_LEN, (size_t)n + CHANNEL_HEADER_LEN, 0,
           &c->name.sa, c->len);
}

static void serve(bool batches)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            bool is_listener = what == &listeners[0] || what == &listeners[1];
            if (is_listener && batches)
                batch_from_clients(*(int *)what);
            else if (is_listener)
                from_clients(*(int *)what);
            else
                from_peer(what);
        }
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    bool batches = argc == 3 && strcmp(argv[2], "batches") == 0;
    if (argc != 2 + batches) {
        fprintf(stderr, "usage: floor PORT [batches]\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        listeners[i] = bound(i ? "::1" : "127.0.0.1", (uint16_t)atoi(argv[1]), LISTENER_BUFFER);
        if (listeners[i] < 0 || !watch(listeners[i], &listeners[i]) ||
            (batches && !take_runs(listeners[i]))) {
            perror("floor");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    serve(batches);
}
