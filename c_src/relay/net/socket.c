/*
 * Sockets of the IPv6 family never carry IPv4 (V6ONLY), so that ::ffff:a.b.c.d reaches nothing.
 *
 * The spread is a classic BPF program on the SO_REUSEPORT group, a hash of the client's IP and
 * port, which lie at the same place for UDP and TCP. Unlike the kernel's own hash it can be
 * computed here as well: state can be put where its client will arrive.
 */
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "sockopt.h"

/* Odd, as multiplication has to be to mix; the control thread's, who alone opens and asks. */
static uint32_t mix_port = 0x9e3779b1u, mix_all = 0x85ebca6bu;

enum {
    BACKLOG = 4096,         /* connections nobody has accepted yet; the kernel may allow fewer */
    UNSENT_MAX = 16 * 1024, /* bytes the kernel takes beyond what is under way */
    KEEPALIVE_IDLE_S = 60,  /* before the first question, */
    KEEPALIVE_EVERY_S = 10, /* between them, */
    KEEPALIVE_TRIES = 3,    /* and as many go unanswered */
    UNHEARD_MS = 30000,     /* of what was sent, before the connection is taken for dead */
    PEERS_WAITING = 32,     /* that have come to a relayed address and nobody has accepted yet */
};

/* Above rmem_max and wmem_max only with CAP_NET_ADMIN; as much as is allowed without. */
static void set_buffer(int fd, int force, int ask, uint32_t bytes)
{
    int value = (int)MIN(bytes, (uint32_t)INT32_MAX);
    if (bytes && sockopt_set(fd, SOL_SOCKET, force, value) != 0)
        sockopt_set(fd, SOL_SOCKET, ask, value);
}

void socket_set_buffers(int fd, const struct socket_buffers *b)
{
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, b->receive);
    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, b->send);
}

/* The kernel tells twice what was asked for: it counts its own overhead. */
static uint32_t get_buffer(int fd, int name)
{
    int value = 0;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? (uint32_t)value / 2 : 0;
}

struct socket_buffers socket_buffers_relayed(const struct socket_buffers *b)
{
    return (struct socket_buffers){MIN(b->receive, (uint32_t)RELAYED_RECEIVE_MAX), b->send};
}

bool socket_buffers_equal(const struct socket_buffers *a, const struct socket_buffers *b)
{
    return a->receive == b->receive && a->send == b->send;
}

struct socket_buffers socket_buffers_granted(const struct socket_buffers *asked)
{
    struct socket_buffers granted = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return granted;
    socket_set_buffers(fd, asked);
    granted = (struct socket_buffers){get_buffer(fd, SO_RCVBUF), get_buffer(fd, SO_SNDBUF)};
    close(fd);
    return granted;
}

/* The kernel finds the sizes of a connection's buffers by itself, as long as nobody sets them. */
static void prepare_udp(int fd, const struct socket_buffers *buffers)
{
    if (buffers)
        socket_set_buffers(fd, buffers);
    sockopt_set(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
    sockopt_set(fd, IPPROTO_UDP, UDP_GRO,
                1); /* where the kernel can (5.0): deliver.h takes it apart */
}

/* All of it is inherited by the connections that come in: nothing waits to be sent together with
 * more, little waits unsent in the kernel, where it could not be dropped any more, and who is gone
 * without a word is found out, whether he is spoken to or not. */
static void prepare_tcp(int fd)
{
    sockopt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* whatever connections of before still linger */
    sockopt_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    sockopt_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_MAX);
    sockopt_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    sockopt_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    sockopt_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EVERY_S);
    sockopt_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TRIES);
    sockopt_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNHEARD_MS);
}

static int open_socket(int type, uint8_t family, const struct socket_buffers *buffers)
{
    int domain = family == ADDR_V4 ? AF_INET : AF_INET6;
    int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (domain == AF_INET6) {
        int ret = sockopt_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        if (ret) {
            close(fd);
            return ret;
        }
    }
    if (type == SOCK_DGRAM)
        prepare_udp(fd, buffers);
    else
        prepare_tcp(fd);
    return fd;
}

static int bind_addr(int fd, const struct addr *a)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(a, &ss);
    return bind(fd, (struct sockaddr *)&ss, len) == 0 ? 0 : -errno;
}

int socket_open_relayed(const struct addr *a, const struct socket_buffers *buffers)
{
    int fd = open_socket(SOCK_DGRAM, a->family, buffers);
    if (fd < 0)
        return fd;
    /* ICMP errors are reported (RFC 8656 11.5). DF is set when a client asks for it, and only then
     * (RFC 8656 15); the kernel fragments otherwise. */
    int ret = a->family == ADDR_V4 ? sockopt_set(fd, IPPROTO_IP, IP_RECVERR, 1)
                                   : sockopt_set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if (ret == 0)
        ret = sockopt_dont_fragment(fd, a->family, false);
    if (ret == 0)
        ret = bind_addr(fd, a);
    if (ret) {
        close(fd);
        return ret;
    }
    return fd;
}

/*
 * Who listens and who connects share the relayed address (RFC 6062 5.2). For that the kernel wants
 * SO_REUSEPORT of both, and whoever has it may come second. The first one gets it when it is bound:
 * so it fails to bind where another program listens, and nobody is let in but by this user.
 */
int socket_open_relayed_stream(const struct addr *a)
{
    int fd = open_socket(SOCK_STREAM, a->family, NULL);
    if (fd < 0)
        return fd;
    int ret = bind_addr(fd, a);
    if (ret == 0)
        ret = sockopt_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (ret == 0 && listen(fd, PEERS_WAITING) != 0)
        ret = -errno;
    if (ret) {
        close(fd);
        return ret;
    }
    return fd;
}

int socket_connect_relayed(const struct addr *a, const struct addr *peer)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(peer, &ss);
    int fd = open_socket(SOCK_STREAM, a->family, NULL);
    if (fd < 0)
        return fd;
    int ret = sockopt_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (ret == 0)
        ret = bind_addr(fd, a);
    if (ret == 0 && connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS)
        ret = -errno;
    if (ret) {
        close(fd);
        return ret;
    }
    return fd;
}

/* ------------------------------------------------------------------------------- the spread */

void socket_spread_key(const uint8_t key[SPREAD_KEY_LEN])
{
    mix_port = load32(key) | 1;
    mix_all = load32(key + 4) | 1;
}

unsigned socket_spread(const struct addr *client, unsigned n)
{
    uint32_t ip = load32(client->ip + 12);
    if (client->family == ADDR_V6)
        ip ^= load32(client->ip) ^ load32(client->ip + 4) ^ load32(client->ip + 8);
    uint32_t hash = (ip ^ client->port * mix_port) * mix_all;
    return (hash >> 16) % n;
}

static int attach_spread(int fd, uint8_t family, unsigned n)
{
#define NET(offset) (uint32_t)(SKF_NET_OFF + (offset))
    struct sock_filter v4[] = {
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, NET(0)), /* X = length of the IP header */
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, NET(0)),  /* source port */
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, mix_port),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(12)), /* source address */
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, mix_all),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, n),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_filter v6[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS,
                 NET(40)), /* extension headers: wrong, but always alike */
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, mix_port),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(8)),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(12)),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(16)),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NET(20)),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, mix_all),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, n),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
#undef NET
    struct sock_fprog prog = family == ADDR_V4 ? (struct sock_fprog){ARRAY_SIZE(v4), v4}
                                               : (struct sock_fprog){ARRAY_SIZE(v6), v6};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) == 0 ? 0
                                                                                          : -errno;
}

/* ------------------------------------------------------------------------------- the group */

static int attach_filter(int fd, struct sock_filter *program, unsigned short len)
{
    struct sock_fprog prog = {len, program};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0 ? 0 : -errno;
}

static int shut(int fd)
{
    struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    return attach_filter(fd, nothing, ARRAY_SIZE(nothing));
}

/* Takes the place of shut(). A datagram without bytes is no message, anybody can send it from any
 * address, and with io_uring each one ends the receive of all clients of a worker: the kernel
 * throws them away. What it is given begins with the header of UDP. */
static void open_up(int fd)
{
    struct sock_filter with_bytes[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, sizeof(struct udphdr), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    if (attach_filter(fd, with_bytes, ARRAY_SIZE(with_bytes)) != 0)
        sockopt_set(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
}

/* Binds without SO_REUSEPORT once: fails where anybody else listens, and settles port 0. */
static int claim(int type, struct addr *local)
{
    int fd = open_socket(type, local->family, NULL);
    if (fd < 0)
        return fd;
    int ret = bind_addr(fd, local);
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr bound;
    if (ret == 0 && getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
        addr_from_sockaddr(&bound, (struct sockaddr *)&ss, len))
        local->port = bound.port;
    close(fd);
    return ret;
}

/* What a listener of datagrams needs besides. */
static int prepare_listener(int fd, const struct addr *local)
{
    int ret = 0;
    if (addr_is_any(local))
        ret = local->family == ADDR_V4 ? sockopt_set(fd, IPPROTO_IP, IP_PKTINFO, 1)
                                       : sockopt_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    if (ret == 0) /* data for clients may be cut (RFC 8656 14), whatever ICMP says of the path */
        ret = sockopt_dont_fragment(fd, local->family, false);
    return ret ? ret : shut(fd);
}

static int open_member(int type, const struct addr *local, const struct socket_buffers *buffers)
{
    int fd = open_socket(type, local->family, buffers);
    if (fd < 0)
        return fd;
    int ret = sockopt_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (ret == 0 && type == SOCK_DGRAM)
        ret = prepare_listener(fd, local);
    if (ret == 0)
        ret = bind_addr(fd, local);
    if (ret) {
        close(fd);
        return ret;
    }
    return fd;
}

/* TCP sockets are of the group in the order in which they listen, and take nobody before. They have
 * no filter: it takes rights that a server need not have, and every connection would inherit it. */
static int listen_all(const int fds[], unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (listen(fds[i], BACKLOG) != 0)
            return -errno;
    return 0;
}

int socket_open_group(int type, struct addr *local, unsigned n,
                      const struct socket_buffers *buffers, int fds[])
{
    unsigned opened = 0;
    int ret = claim(type, local);
    if (ret)
        return ret;
    for (; opened < n; opened++) {
        fds[opened] = open_member(type, local, buffers);
        if (fds[opened] < 0) {
            ret = fds[opened];
            goto err_close;
        }
    }
    if (n > 1 && (ret = attach_spread(fds[0], local->family, n)) != 0)
        goto err_close;
    if (type == SOCK_STREAM && (ret = listen_all(fds, n)) != 0)
        goto err_close;
    for (unsigned i = 0; type == SOCK_DGRAM && i < n; i++)
        open_up(fds[i]);
    return 0;

err_close:
    while (opened > 0)
        close(fds[--opened]);
    return ret;
}
