#include "sockopt.h"

#include <errno.h>
#include <linux/tcp.h>

#include "addr.h"

int sockopt_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* For IPv4 the opposite of DO is OMIT: with DONT the kernel would not report what ICMP says of a
 * datagram that was sent with DF a moment ago. In IPv6 only we may fragment, so we must learn. */
int sockopt_dont_fragment(int fd, uint8_t family, bool on)
{
    return family == ADDR_V4 ? sockopt_set(fd, IPPROTO_IP, IP_MTU_DISCOVER,
                                           on ? IP_PMTUDISC_DO : IP_PMTUDISC_OMIT)
                             : sockopt_set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
                                           on ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_DONT);
}

uint64_t sockopt_delivery_rate(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_delivery_rate : 0;
}
