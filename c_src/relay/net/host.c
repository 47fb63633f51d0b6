#include "host.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

static bool read_ifaddr(struct addr *out, const struct sockaddr *sa)
{
    if (!sa || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
        return false;
    return addr_from_sockaddr(out, sa,
                              sa->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                       : sizeof(struct sockaddr_in6));
}

static bool same_addrs(const struct addr *a, const struct addr *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!addr_ip_equal(&a[i], &b[i]))
            return false;
    return true;
}

bool host_scan(struct host *h)
{
    struct ifaddrs *all;
    static struct host now; /* too large for the stack of a frame; of the control thread alone */
    now.own_count = now.broadcast_count = 0;
    if (getifaddrs(&all) != 0)
        return false;
    for (struct ifaddrs *i = all; i && now.own_count < HOST_ADDRS_MAX; i = i->ifa_next) {
        now.own_count += read_ifaddr(&now.own[now.own_count], i->ifa_addr);
        if (i->ifa_flags & IFF_BROADCAST && now.broadcast_count < HOST_ADDRS_MAX)
            now.broadcast_count +=
                read_ifaddr(&now.broadcast[now.broadcast_count], i->ifa_broadaddr);
    }
    freeifaddrs(all);
    if (now.own_count == h->own_count && now.broadcast_count == h->broadcast_count &&
        same_addrs(now.own, h->own, now.own_count) &&
        same_addrs(now.broadcast, h->broadcast, now.broadcast_count))
        return false;
    memcpy(h->own, now.own, now.own_count * sizeof(now.own[0]));
    memcpy(h->broadcast, now.broadcast, now.broadcast_count * sizeof(now.broadcast[0]));
    h->own_count = now.own_count;
    h->broadcast_count = now.broadcast_count;
    return true;
}
