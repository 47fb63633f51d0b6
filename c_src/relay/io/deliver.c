#include "deliver.h"

#include <netinet/udp.h>
#include <string.h>

static void read_dest_v4(const struct cmsghdr *c, struct addr *dest)
{
    struct in_pktinfo info;
    memcpy(&info, CMSG_DATA(c), sizeof(info));
    *dest = addr_from_v4((const uint8_t *)&info.ipi_addr, 0);
}

static void read_dest_v6(const struct cmsghdr *c, struct addr *dest)
{
    struct in6_pktinfo info;
    memcpy(&info, CMSG_DATA(c), sizeof(info));
    *dest = addr_from_v6((const uint8_t *)&info.ipi6_addr, 0);
    if (dest->ip[0] == 0xfe && (dest->ip[1] & 0xc0) == 0x80)
        dest->scope = info.ipi6_ifindex;
}

/* Fills in dest, and what the socket lost since it was opened, 0 if that is nothing. How long each
 * datagram is where there are several, else 0. */
static size_t read_control(struct msghdr *control, struct addr *dest, uint32_t *lost)
{
    int segment = 0;
    *lost = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(control); c; c = CMSG_NXTHDR(control, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            read_dest_v4(c, dest);
        else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
            read_dest_v6(c, dest);
        else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            memcpy(&segment, CMSG_DATA(c), sizeof(segment));
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
            memcpy(lost, CMSG_DATA(c), sizeof(*lost));
    }
    return segment > 0 ? (size_t)segment : 0;
}

static void tell_lost(struct io *io, struct io_socket *s, uint32_t lost)
{
    uint32_t more = lost - s->lost;
    s->lost = lost;
    io->events.on_lost(io->events.ctx, s, more);
}

static void deliver_each(struct io *io, struct io_socket *s, const struct io_packet *whole,
                         size_t segment)
{
    io->counts.gro_runs++;
    for (size_t at = 0; at < whole->len && !s->removing; at += segment) {
        struct io_packet p = *whole;
        p.data = whole->data + at;
        p.len = MIN(segment, whole->len - at);
        p.roomy = false;
        io->counts.gro_datagrams++;
        s->handler->on_packet(io->events.ctx, s, &p);
    }
}

void deliver(struct io *io, struct io_socket *s, struct io_packet *p, struct msghdr *control)
{
    uint32_t lost = 0;
    size_t segment = control->msg_controllen ? read_control(control, &p->dest, &lost) : 0;
    if (UNLIKELY(lost != s->lost && lost))
        tell_lost(io, s, lost);
    if (UNLIKELY(segment && segment < p->len))
        deliver_each(io, s, p, segment);
    else
        s->handler->on_packet(io->events.ctx, s, p);
}
