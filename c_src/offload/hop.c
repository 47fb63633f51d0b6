#include "hop.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdalign.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_MAX = 4096, ANSWER_S = 1 };

/* One question and its answer: neither is larger. */
struct talk {
    alignas(8) uint8_t bytes[ANSWER_MAX];
    struct nlmsghdr *answer;
};

struct link {
    uint32_t interface;
    uint32_t route_mtu; /* 0: the interface's */
    struct addr next;
};

int hop_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    const struct timeval patience = {.tv_sec = ANSWER_S};
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

/* ------------------------------------------------------------------------------ asking the kernel
 */

static struct nlmsghdr *question(struct talk *t, uint16_t type, size_t body)
{
    struct nlmsghdr *h = (struct nlmsghdr *)(void *)t->bytes;
    memset(t->bytes, 0, NLMSG_LENGTH(body));
    h->nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST;
    return h;
}

static size_t ip_size(const struct addr *a)
{
    return a->family == ADDR_V4 ? 4 : 16;
}

static uint8_t kernel_family(const struct addr *a)
{
    return a->family == ADDR_V4 ? AF_INET : AF_INET6;
}

static void put_ip(struct nlmsghdr *h, uint16_t type, const struct addr *a)
{
    struct rtattr *at = (struct rtattr *)(void *)((uint8_t *)h + NLMSG_ALIGN(h->nlmsg_len));
    at->rta_type = type;
    at->rta_len = (uint16_t)RTA_LENGTH(ip_size(a));
    memcpy(RTA_DATA(at), a->ip + 16 - ip_size(a), ip_size(a));
    h->nlmsg_len = (uint32_t)(NLMSG_ALIGN(h->nlmsg_len) + RTA_ALIGN(at->rta_len));
}

/* One message of that type, or nothing. What is left of a question that was given up is passed
 * over. */
static bool ask(int fd, struct talk *t, uint16_t wanted)
{
    static _Thread_local uint32_t last;
    struct nlmsghdr *h = (struct nlmsghdr *)(void *)t->bytes;
    uint32_t number = h->nlmsg_seq = ++last;
    if (send(fd, h, h->nlmsg_len, 0) < 0)
        return false;
    ssize_t len;
    do {
        len = recv(fd, t->bytes, sizeof(t->bytes), 0);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < (ssize_t)sizeof(*h) || !NLMSG_OK(h, (size_t)len))
            return false;
    } while (len < 0 || h->nlmsg_seq != number);
    t->answer = h;
    return h->nlmsg_type == wanted;
}

/* -------------------------------------------------------------------------------- what it answers
 */

static uint32_t number_in(struct rtattr *a)
{
    uint32_t value = 0;
    if (RTA_PAYLOAD(a) >= sizeof(value))
        memcpy(&value, RTA_DATA(a), sizeof(value));
    return value;
}

static uint32_t mtu_in(struct rtattr *metrics)
{
    size_t len = RTA_PAYLOAD(metrics);
    for (struct rtattr *a = RTA_DATA(metrics); RTA_OK(a, len); a = RTA_NEXT(a, len))
        if (a->rta_type == RTAX_MTU)
            return number_in(a);
    return 0;
}

static bool ask_route(int fd, const struct addr *from, const struct addr *to, struct link *out)
{
    struct talk t;
    struct nlmsghdr *h = question(&t, RTM_GETROUTE, sizeof(struct rtmsg));
    struct rtmsg *m = NLMSG_DATA(h);
    *m = (struct rtmsg){.rtm_family = kernel_family(to),
                        .rtm_dst_len = (uint8_t)(8 * ip_size(to)),
                        .rtm_src_len = (uint8_t)(8 * ip_size(from))};
    put_ip(h, RTA_DST, to);
    put_ip(h, RTA_SRC, from);
    if (!ask(fd, &t, RTM_NEWROUTE))
        return false;
    m = NLMSG_DATA(t.answer);
    *out = (struct link){.next = *to};
    size_t len = RTM_PAYLOAD(t.answer);
    for (struct rtattr *a = RTM_RTA(m); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
        if (a->rta_type == RTA_OIF)
            out->interface = number_in(a);
        else if (a->rta_type == RTA_METRICS)
            out->route_mtu = mtu_in(a);
        else if (a->rta_type == RTA_GATEWAY && RTA_PAYLOAD(a) == ip_size(to))
            memcpy(out->next.ip + 16 - ip_size(to), RTA_DATA(a), ip_size(to));
        else if (a->rta_type == RTA_VIA || a->rta_type == RTA_ENCAP)
            return false; /* a gateway of the other family; a tunnel: sockets go there */
    }
    return m->rtm_type == RTN_UNICAST && out->interface;
}

static bool ask_neighbour(int fd, const struct link *l, uint8_t mac[6])
{
    struct talk t;
    struct nlmsghdr *h = question(&t, RTM_GETNEIGH, sizeof(struct ndmsg));
    struct ndmsg *m = NLMSG_DATA(h);
    *m = (struct ndmsg){.ndm_family = kernel_family(&l->next), .ndm_ifindex = (int)l->interface};
    put_ip(h, NDA_DST, &l->next);
    if (!ask(fd, &t, RTM_NEWNEIGH))
        return false;
    m = NLMSG_DATA(t.answer);
    if (!(m->ndm_state & (NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)))
        return false;
    size_t len = NLMSG_PAYLOAD(t.answer, sizeof(*m));
    struct rtattr *a = (void *)((uint8_t *)m + NLMSG_ALIGN(sizeof(*m)));
    for (; RTA_OK(a, len); a = RTA_NEXT(a, len))
        if (a->rta_type == NDA_LLADDR && RTA_PAYLOAD(a) == 6) {
            memcpy(mac, RTA_DATA(a), 6);
            return true;
        }
    return false;
}

/* Any socket may ask for an interface. */
static bool ask_interface(int fd, const struct link *l, struct hop *out)
{
    struct ifreq r = {0};
    if (!if_indextoname(l->interface, r.ifr_name) || ioctl(fd, SIOCGIFHWADDR, &r) != 0 ||
        r.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        return false;
    memcpy(out->from_mac, r.ifr_hwaddr.sa_data, 6);
    if (ioctl(fd, SIOCGIFMTU, &r) != 0)
        return false;
    out->mtu = (uint32_t)r.ifr_mtu;
    if (l->route_mtu)
        out->mtu = MIN(out->mtu, l->route_mtu);
    return true;
}

bool hop_find(int fd, const struct addr *from, const struct addr *to, struct hop *out)
{
    struct link l;
    *out = (struct hop){0};
    if (!ask_route(fd, from, to, &l) || !ask_interface(fd, &l, out))
        return false;
    out->interface = l.interface;
    out->met = ask_neighbour(fd, &l, out->to_mac);
    return true;
}
