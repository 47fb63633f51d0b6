#include "runs.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "bytes.h"
#include "clock.h"

/* ------------------------------------------------------------------------------------ refusals */

static struct refusal *refusal_of(struct runs *r, const struct addr *to)
{
    uint32_t h = (load32(to->ip + 12) ^ load32(to->ip + 4) ^ load32(to->ip)) * 0x9e3779b1u;
    return &r->refused[h >> 26 & (RUNS_REFUSED - 1)];
}

static bool is_refused(struct runs *r, const struct addr *to, uint32_t size)
{
    struct refusal *e = refusal_of(r, to);
    if (e->until == 0 || memcmp(e->ip, to->ip, 16) != 0)
        return false;
    if (e->until <= clock_read().now) {
        e->until = 0;
        r->refusals--;
        return false;
    }
    return size >= e->size;
}

bool runs_refuse(struct runs *r, const struct run *run, int err)
{
    bool too_large = err == EINVAL || err == EMSGSIZE;
    if (run->count == 1 || (!too_large && err != EIO && err != EOPNOTSUPP && err != ENOPROTOOPT))
        return false;
    struct refusal *e = refusal_of(r, &run->to);
    r->refusals += e->until == 0;
    memcpy(e->ip, run->to.ip, 16);
    e->size = too_large ? run->size : 0;
    e->until = clock_read().now + RUNS_REFUSED_S * NS_PER_S;
    return true;
}

/* ------------------------------------------------------------------------------------ grouping */

static uint32_t bucket_of(const struct io_socket *s, const struct addr *to)
{
    uint64_t h = (uintptr_t)s >> 4 ^ (uint64_t)to->port << 40 ^ load64(to->ip + 8);
    return (uint32_t)(h * 0x9e3779b97f4a7c15u >> 40) & (RUNS_BUCKETS - 1);
}

static bool is_flow(const struct run *run, const struct io_socket *s, const struct addr *to,
                    const struct addr *from)
{
    if (run->socket != s || !addr_equal(&run->to, to) || run->to.scope != to->scope)
        return false;
    return from ? addr_ip_equal(&run->from, from) : run->from.family == ADDR_NONE;
}

/* A datagram without bytes would be lost at the end of a run. */
static bool may_grow(struct runs *r, const struct run *run, uint32_t size)
{
    return run->open && size > 0 && size <= run->size && run->bytes + size <= RUN_BYTES &&
           !(UNLIKELY(r->refusals) && is_refused(r, &run->to, run->size));
}

static struct run *begin(struct runs *r, struct io_socket *s, const struct addr *to,
                         const struct addr *from, uint32_t size)
{
    struct run *run = &r->runs[r->count++];
    run->socket = s;
    run->to = *to;
    run->from.family = ADDR_NONE;
    if (from)
        run->from = *from;
    run->size = size;
    run->bytes = 0;
    run->count = 0;
    run->open = size > 0;
    run->name_len = addr_to_sockaddr(to, &run->name);
    return run;
}

static void append(struct runs *r, struct run *run, uint16_t index, uint32_t size)
{
    if (run->count == 0)
        run->first = index;
    else
        r->out[run->last].next = (uint16_t)(index + 1);
    run->last = index;
    run->bytes += size;
    run->count++;
    run->open = run->open && size == run->size && run->count < RUN_SEGMENTS;
}

struct run *runs_add(struct runs *r, struct io_socket *s, const uint8_t *head, const uint8_t *data,
                     size_t len, const struct addr *to, const struct addr *from)
{
    if (from && (!s->wants_dest || from->family == ADDR_NONE))
        from = NULL;
    uint16_t index = (uint16_t)r->datagrams++;
    struct outgoing *out = &r->out[index];
    out->data = data;
    out->len = (uint32_t)len;
    out->next = 0;
    out->head_len = head ? IO_HEAD_LEN : 0;
    if (head)
        memcpy(out->head, head, IO_HEAD_LEN);
    uint32_t size = out->len + out->head_len;

    uint16_t *bucket = &r->buckets[bucket_of(s, to)];
    struct run *run = *bucket ? &r->runs[*bucket - 1] : NULL;
    if (!run || !is_flow(run, s, to, from) || !may_grow(r, run, size)) {
        run = begin(r, s, to, from, size);
        *bucket = (uint16_t)r->count;
    }
    append(r, run, index, size);
    return run;
}

void runs_seal(struct runs *r)
{
    memset(r->buckets, 0, sizeof(r->buckets));
}

void runs_clear(struct runs *r)
{
    if (!r->datagrams)
        return;
    runs_seal(r);
    r->datagrams = 0;
    r->count = 0;
    r->iovecs = 0;
}

/* ------------------------------------------------------------------------------------ messages */

static void put_control(struct msghdr *msg, int level, int type, const void *data, size_t len)
{
    uint8_t *at = (uint8_t *)msg->msg_control + msg->msg_controllen;
    struct cmsghdr *c = (struct cmsghdr *)(void *)at;
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(c), data, len);
    msg->msg_controllen += CMSG_SPACE(len);
}

static void put_source(struct msghdr *msg, const struct addr *from)
{
    if (from->family == ADDR_V4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, addr_v4(from), 4);
        put_control(msg, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else if (from->family == ADDR_V6) {
        struct in6_pktinfo info = {.ipi6_ifindex = from->scope};
        memcpy(&info.ipi6_addr, from->ip, 16);
        put_control(msg, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
}

/* The header of a message without data: name, source address. */
static void start_message(struct run *run, struct msghdr *msg, struct iovec *iov, uint8_t *control)
{
    *msg = (struct msghdr){.msg_name = &run->name,
                           .msg_namelen = run->name_len,
                           .msg_iov = iov,
                           .msg_control = control};
    put_source(msg, &run->from);
}

static void put_pieces(struct msghdr *msg, struct outgoing *out)
{
    if (out->head_len)
        msg->msg_iov[msg->msg_iovlen++] = (struct iovec){out->head, out->head_len};
    msg->msg_iov[msg->msg_iovlen++] = (struct iovec){(void *)(uintptr_t)out->data, out->len};
}

const struct msghdr *runs_message(struct runs *r, struct run *run)
{
    start_message(run, &run->msg, r->iov + r->iovecs, run->control);
    for (uint32_t at = run->first + 1u; at; at = r->out[at - 1].next)
        put_pieces(&run->msg, &r->out[at - 1]);
    r->iovecs += (uint32_t)run->msg.msg_iovlen;
    if (run->count > 1) {
        uint16_t size = (uint16_t)run->size;
        put_control(&run->msg, SOL_UDP, UDP_SEGMENT, &size, sizeof(size));
    }
    if (run->msg.msg_controllen == 0)
        run->msg.msg_control = NULL;
    return &run->msg;
}

void runs_single(struct runs *r, struct run *run, uint16_t index, struct run_single *out)
{
    start_message(run, &out->msg, out->iov, out->control);
    put_pieces(&out->msg, &r->out[index]);
    if (out->msg.msg_controllen == 0)
        out->msg.msg_control = NULL;
}
