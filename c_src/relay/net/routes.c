/*
 * All tables are read, not table local alone: in a VRF the addresses of an interface stand in the
 * table of that VRF. Of tables that no packet of ours reaches by itself, routes without bits are
 * passed over: `local default` in a table of its own is how a transparent proxy takes marked
 * packets, and would make the whole world this host.
 *
 * The kernel is asked for each type by itself (strict checking, Linux 4.20), so that a router with
 * a million routes need not tell them all; an older one tells them all, and they are sifted here.
 *
 * libmnl would take away the walk over messages and attributes, thirty lines of the kernel's own
 * macros, and be one more package for everybody.
 */
#include "routes.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    EVENTS_BUFFER = 1 << 20, /* of the kernel; what is too much for it only means: read again */
    DATAGRAM_MAX = 1 << 16,  /* the kernel makes none above 32 KiB */
    ANSWER_S = 2,
};

static uint8_t datagram[DATAGRAM_MAX]; /* of the control thread alone */

/* -------------------------------------------------------------------------------------- parsing */

/* A header lies in the bytes at any place, so it is copied out; false at the end, or when what is
 * there is no whole message. */
static bool next_message(const uint8_t **data, size_t *len, struct nlmsghdr *h,
                         const uint8_t **body, size_t *body_len)
{
    if (*len < NLMSG_HDRLEN)
        return false;
    memcpy(h, *data, sizeof(*h));
    if (h->nlmsg_len < NLMSG_HDRLEN || h->nlmsg_len > *len)
        return false;
    *body = *data + NLMSG_HDRLEN;
    *body_len = h->nlmsg_len - NLMSG_HDRLEN;
    size_t step = MIN((size_t)NLMSG_ALIGN(h->nlmsg_len), *len);
    *data += step;
    *len -= step;
    return true;
}

static bool next_attribute(const uint8_t **data, size_t *len, unsigned *type, const uint8_t **value,
                           size_t *value_len)
{
    struct rtattr a;
    if (*len < RTA_LENGTH(0))
        return false;
    memcpy(&a, *data, sizeof(a));
    if (a.rta_len < RTA_LENGTH(0) || a.rta_len > *len)
        return false;
    *type = a.rta_type & NLA_TYPE_MASK;
    *value = *data + RTA_LENGTH(0);
    *value_len = a.rta_len - RTA_LENGTH(0);
    size_t step = MIN((size_t)RTA_ALIGN(a.rta_len), *len);
    *data += step;
    *len -= step;
    return true;
}

static enum host_kind kind_of(unsigned type)
{
    switch (type) {
    case RTN_LOCAL:
        return HOST_LOCAL;
    case RTN_ANYCAST:
        return HOST_ANYCAST;
    case RTN_BROADCAST:
        return HOST_BROADCAST;
    case RTN_MULTICAST:
        return HOST_MULTICAST;
    default:
        return HOST_OTHER;
    }
}

static bool is_default_rule(uint32_t table)
{
    return table == RT_TABLE_LOCAL || table == RT_TABLE_MAIN || table == RT_TABLE_DEFAULT;
}

/* False for a route to somewhere else. */
static bool read_route(struct host_prefix *p, const uint8_t *body, size_t len)
{
    struct rtmsg m;
    if (len < NLMSG_ALIGN(sizeof(m)))
        return false;
    memcpy(&m, body, sizeof(m));
    size_t size = m.rtm_family == AF_INET ? 4 : 16;
    *p = (struct host_prefix){.kind = (uint8_t)kind_of(m.rtm_type),
                              .family = size == 4 ? ADDR_V4 : ADDR_V6};
    if ((m.rtm_family != AF_INET && m.rtm_family != AF_INET6) || p->kind == HOST_OTHER ||
        m.rtm_dst_len > 8 * size || m.rtm_flags & RTM_F_CLONED)
        return false;
    if (size == 4)
        p->ip[10] = p->ip[11] = 0xff;
    p->bits = (uint8_t)(128 - 8 * size + m.rtm_dst_len);
    uint32_t table = m.rtm_table;
    const uint8_t *value;
    unsigned type;
    size_t value_len;
    body += NLMSG_ALIGN(sizeof(m));
    len -= NLMSG_ALIGN(sizeof(m));
    while (next_attribute(&body, &len, &type, &value, &value_len)) {
        if (type == RTA_DST && value_len == size)
            memcpy(p->ip + 16 - size, value, size);
        else if (type == RTA_TABLE && value_len == sizeof(table))
            memcpy(&table, value, sizeof(table));
    }
    return m.rtm_dst_len > 0 || is_default_rule(table);
}

/* The errno that an answer ends with, negative; 0 for a good end. */
static int outcome(const uint8_t *body, size_t len)
{
    int err;
    if (len < sizeof(err))
        return -EPROTO;
    memcpy(&err, body, sizeof(err));
    return err > 0 ? -EPROTO : err;
}

int routes_parse(struct host_list *l, const uint8_t *data, size_t len, uint32_t seq, bool *torn)
{
    struct nlmsghdr h;
    const uint8_t *body;
    size_t body_len;
    struct host_prefix p;
    while (next_message(&data, &len, &h, &body, &body_len)) {
        if (h.nlmsg_seq != seq)
            continue; /* of a question that was given up */
        *torn |= (h.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        if (h.nlmsg_type == NLMSG_DONE)
            return body_len ? outcome(body, body_len) : 0;
        if (h.nlmsg_type == NLMSG_ERROR)
            return outcome(body, body_len);
        if (h.nlmsg_type == RTM_NEWROUTE && read_route(&p, body, body_len) && !host_list_add(l, &p))
            return -ENOMEM;
    }
    return ROUTES_MORE;
}

bool routes_concern(const uint8_t *data, size_t len)
{
    struct nlmsghdr h;
    const uint8_t *body;
    size_t body_len;
    struct host_prefix p;
    while (next_message(&data, &len, &h, &body, &body_len))
        switch (h.nlmsg_type) {
        case RTM_NEWADDR:
        case RTM_DELADDR:
            return true;
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
            if (read_route(&p, body, body_len))
                return true;
        }
    return false;
}

/* -------------------------------------------------------------------------------------- sockets */

static int open_netlink(uint32_t groups)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl here = {.nl_family = AF_NETLINK, .nl_groups = groups};
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&here, sizeof(here)) != 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

int routes_open(struct routes *r)
{
    const int on = 1, room = EVENTS_BUFFER;
    const struct timeval patience = {.tv_sec = ANSWER_S};
    int events = open_netlink(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                              RTMGRP_IPV6_ROUTE);
    if (events < 0)
        return events;
    int dump = open_netlink(0);
    if (dump < 0) {
        close(events);
        return dump;
    }
    setsockopt(events, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    setsockopt(dump, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(dump, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on)); /* where it can */
    *r = (struct routes){.events = events, .dump = dump};
    return 0;
}

void routes_close(struct routes *r)
{
    close(r->events);
    close(r->dump);
}

/* The kernel alone is listened to: another program may send to this socket as well. */
static ssize_t receive(int fd, int flags)
{
    struct sockaddr_nl from = {0};
    struct iovec iov = {datagram, sizeof(datagram)};
    struct msghdr msg = {
        .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
    for (;;) {
        ssize_t n = recvmsg(fd, &msg, flags);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (msg.msg_flags & MSG_TRUNC)
            return -EMSGSIZE;
        if (from.nl_pid == 0)
            return n;
    }
}

bool routes_changed(struct routes *r)
{
    bool changed = false;
    ssize_t n;
    while ((n = receive(r->events, MSG_DONTWAIT)) >= 0)
        changed |= routes_concern(datagram, (size_t)n);
    return changed || n != -EAGAIN; /* ENOBUFS: some of it is lost */
}

/* ----------------------------------------------------------------------------------- a question */

/* What is left of an answer that was given up: the kernel takes no question before its end. */
static void clear(struct routes *r)
{
    while (receive(r->dump, MSG_DONTWAIT) >= 0)
        ;
}

static int ask(struct routes *r, uint8_t family, uint8_t type)
{
    struct {
        struct nlmsghdr h;
        struct rtmsg m;
    } question = {
        .h = {.nlmsg_len = sizeof(question),
              .nlmsg_type = RTM_GETROUTE,
              .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
              .nlmsg_seq = ++r->seq},
        .m = {.rtm_family = family, .rtm_type = type},
    };
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n = sendto(r->dump, &question, sizeof(question), 0, (const struct sockaddr *)&kernel,
                       sizeof(kernel));
    return n < 0 ? -errno : 0;
}

static int read_type(struct routes *r, struct host_list *l, uint8_t family, uint8_t type,
                     bool *torn)
{
    clear(r);
    int ret = ask(r, family, type);
    while (ret == 0 || ret == ROUTES_MORE) {
        ssize_t n = receive(r->dump, 0);
        n = n == -EAGAIN ? -ETIMEDOUT : n;
        ret = n < 0 ? (int)n : routes_parse(l, datagram, (size_t)n, r->seq, torn);
        if (ret == 0)
            return 0;
    }
    return ret;
}

/* A kernel without IPv6 has no routes of it. */
static bool is_absent(uint8_t family, int err)
{
    return family == AF_INET6 && (err == -EAFNOSUPPORT || err == -EOPNOTSUPP);
}

int routes_read(struct routes *r, struct host_list *l)
{
    static const uint8_t families[] = {AF_INET, AF_INET6};
    static const uint8_t types[] = {RTN_LOCAL, RTN_ANYCAST, RTN_BROADCAST, RTN_MULTICAST};
    bool torn = false;
    for (size_t f = 0; f < ARRAY_SIZE(families); f++)
        for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
            int ret = read_type(r, l, families[f], types[t], &torn);
            if (ret && !is_absent(families[f], ret))
                return ret;
        }
    return torn ? -EAGAIN : 0;
}
