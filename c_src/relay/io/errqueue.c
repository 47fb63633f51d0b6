#include "errqueue.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/icmpv6.h>
#include <netinet/ip_icmp.h>
#include <stdalign.h>
#include <string.h>

bool errqueue_may_hold(int err)
{
    return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH || err == EHOSTDOWN ||
           err == ENOPROTOOPT || err == EPROTO || err == EMSGSIZE || err == EACCES ||
           err == EOPNOTSUPP || err == ENETDOWN;
}

static bool is_reported(const struct io_icmp *icmp)
{
    if (icmp->peer.family == ADDR_V4)
        return icmp->type == ICMP_DEST_UNREACH || icmp->type == ICMP_TIME_EXCEEDED;
    return icmp->type >= ICMPV6_DEST_UNREACH && icmp->type <= ICMPV6_TIME_EXCEED;
}

static bool by_icmp(const struct sock_extended_err *e)
{
    return e->ee_origin == SO_EE_ORIGIN_ICMP || e->ee_origin == SO_EE_ORIGIN_ICMP6;
}

static bool read_error(const struct sock_extended_err *e, const struct addr *peer,
                       struct io_icmp *out)
{
    struct io_icmp icmp = {.peer = *peer, .type = e->ee_type, .code = e->ee_code};
    if (e->ee_errno == EMSGSIZE) {
        icmp.mtu = e->ee_info;
        if (e->ee_origin == SO_EE_ORIGIN_LOCAL) {
            bool v4 = peer->family == ADDR_V4;
            icmp.type = v4 ? ICMP_DEST_UNREACH : ICMPV6_PKT_TOOBIG;
            icmp.code = v4 ? ICMP_FRAG_NEEDED : 0;
        }
    } else if (!by_icmp(e)) {
        return false;
    }
    if (!is_reported(&icmp))
        return false;
    *out = icmp;
    return true;
}

/* The error of one entry; false when it has none. */
static bool find_error(struct msghdr *msg, struct sock_extended_err *e)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
        bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
        if ((v4 || v6) && c->cmsg_len >= CMSG_LEN(sizeof(*e))) {
            memcpy(e, CMSG_DATA(c), sizeof(*e));
            return true;
        }
    }
    return false;
}

unsigned errqueue_read(int fd, struct io_icmp out[ERRQUEUE_MAX], unsigned *n)
{
    unsigned icmp = 0;
    *n = 0;
    for (int i = 0; i < ERRQUEUE_MAX; i++) {
        struct sockaddr_storage name;
        alignas(struct cmsghdr) uint8_t control[256];
        uint8_t payload[1];
        struct iovec iov = {payload, sizeof(payload)};
        struct msghdr msg = {.msg_name = &name,
                             .msg_namelen = sizeof(name),
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
        struct sock_extended_err e;
        struct addr peer;
        if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            break;
        if (!find_error(&msg, &e))
            continue;
        icmp += by_icmp(&e);
        if (addr_from_sockaddr(&peer, (struct sockaddr *)&name, msg.msg_namelen))
            *n += read_error(&e, &peer, &out[*n]);
    }
    return icmp;
}

bool reports_read(struct reports *r, struct io_socket *s, const struct addr *to)
{
    struct io_icmp said[ERRQUEUE_MAX];
    unsigned n, icmp = errqueue_read(s->fd, said, &n);
    for (unsigned i = 0; i < n && r->count < REPORTS_MAX; i++) {
        if (to && said[i].peer.port == 0 && addr_ip_equal(&said[i].peer, to))
            said[i].peer.port = to->port;
        r->said[r->count++] = (struct report){s, said[i]};
    }
    return icmp > 0;
}

void reports_tell(struct reports *r, void *ctx)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct io_socket *s = r->said[i].socket;
        if (s && !s->removing)
            s->handler->on_icmp(ctx, s, &r->said[i].icmp);
    }
    r->count = 0;
}

void reports_forget(struct reports *r, const struct io_socket *s)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (r->said[i].socket == s)
            r->said[i].socket = NULL;
}
