#include "allocs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "post_office.h"
#include "rules.h"
#include "watch.h"

/* An address that cannot be bound is better refused now than at the first Allocate. */
static int try_to_bind(const struct ctl_relay_address *m)
{
    int fd = socket_open_relayed(&m->local, NULL);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || (fd == -EADDRNOTAVAIL && m->awaited) ? 0 : fd;
}

void allocs_address(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_relay_address *m = &f->u.relay_address;
    if (!c->workers) {
        pipe_reply(&c->pipe, f, CTL_REFUSED, "no CONFIG yet");
        return;
    }
    int ret = ports_add(&c->ports, m->pool, &m->local, &m->advertised, m->min_port, m->max_port);
    if (ret == 0) {
        ret = try_to_bind(m);
        ports_find(&c->ports, m->pool)->closed = ret != 0;
    }
    pipe_reply(&c->pipe, f, ret ? CTL_FAILED : CTL_OK, ret ? strerror(-ret) : "");
    rules_spread(c);
    watch_tell(c);
}

void allocs_pool_close(struct control *c, const struct ctl_frame *f)
{
    struct pool *pool = ports_find(&c->ports, f->u.pool_close.pool);
    if (pool)
        pool->closed = true;
    pipe_reply(&c->pipe, f, pool ? CTL_OK : CTL_GONE, "");
}

static enum ctl_status status_of(int err)
{
    return err == -EADDRINUSE ? CTL_NO_PORTS : CTL_FAILED;
}

static void refuse(struct control *c, const struct ctl_frame *f, enum ctl_status status,
                   const struct mail_alloc *m)
{
    const char *detail = m->err ? strerror(m->err) : "";
    struct ctl_frame out = {.code = CTL_ALLOC_CREATED,
                            .ref = f->ref,
                            .u.alloc_created = {.session = f->u.alloc_create.session,
                                                .status = status,
                                                .status_v4 = m->status[0],
                                                .status_v6 = m->status[1],
                                                .detail = ctl_bytes_of(detail, strlen(detail))}};
    pipe_send(&c->pipe, &out);
}

/* An allocation that names its ports has all of them or none. */
static void give_back(struct mail_alloc *m)
{
    for (int i = 0; i < 2; i++) {
        struct port *port = &m->relayed[i];
        if (!port->pool)
            continue;
        close(port->fd);
        port_release(port->pool, port->port);
        port->pool = NULL;
    }
}

/* A port of the family, by what is relayed. *token is of the one that was held behind it. */
static int take_port(struct control *c, const struct ctl_alloc_create *m, uint32_t pool,
                     uint8_t family, uint16_t wanted, struct port *out, uint64_t *token)
{
    *token = 0;
    if (m->protocol == IPPROTO_TCP)
        return ports_take_stream(&c->ports, pool, family, wanted, out);
    return ports_take(&c->ports, pool, family, wanted, (enum port_even)m->even, c->time.now, out,
                      token);
}

/* Ports are chosen and sockets bound here; the worker does the rest, and replies. */
void allocs_create(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_alloc_create *m = &f->u.alloc_create;
    unsigned index = (unsigned)(m->session >> 56);
    struct mail_alloc ma = {.ref = f->ref,
                            .session = m->session,
                            .listener = m->listener,
                            .transport = m->transport,
                            .client = m->client,
                            .server = m->server,
                            .lifetime_ms = m->lifetime_ms,
                            .bytes_per_s = m->bytes_per_s,
                            .packets_per_s = m->packets_per_s,
                            .bucket = m->bucket,
                            .protocol = m->protocol,
                            .connections_max = m->connections_max};
    const uint32_t pools[2] = {m->pool_v4, m->pool_v6};
    const uint16_t wanted[2] = {m->port_v4, m->port_v6};
    enum ctl_status status = CTL_GONE;
    bool named = m->port_v4 || m->port_v6;
    if (index >= c->worker_count) {
        refuse(c, f, CTL_REFUSED, &ma);
        return;
    }
    /* The client of one that is replayed may have moved, and its packets come to another worker
     * than the session's number says. */
    ma.home = named ? socket_spread(&m->client, c->worker_count) : index;
    struct port held;
    if (m->token && !port_redeem(&c->ports, m->token, c->time.now, &held)) {
        refuse(c, f, CTL_BAD_TOKEN, &ma);
        return;
    }
    if (m->token)
        ma.relayed[held.pool->local.family == ADDR_V6] = held;
    for (int i = 0; !m->token && i < 2; i++) {
        uint64_t token;
        if (!pools[i])
            continue;
        int ret =
            take_port(c, m, pools[i], i ? ADDR_V6 : ADDR_V4, wanted[i], &ma.relayed[i], &token);
        ma.token = token ? token : ma.token;
        ma.status[i] = ret ? status_of(ret) : CTL_OK;
        status = ma.status[i];
        if (status == CTL_FAILED)
            ma.err = -ret;
    }
    if (named && (ma.status[0] || ma.status[1])) {
        status = ma.status[0] ? ma.status[0] : ma.status[1];
        give_back(&ma);
    }
    if (!ma.relayed[0].pool && !ma.relayed[1].pool) {
        refuse(c, f, status, &ma);
        return;
    }
    office_mail(c, index, MAIL_ALLOC, &ma, sizeof(ma));
}

void allocs_move(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_alloc_move *m = &f->u.alloc_move;
    unsigned index = (unsigned)(m->session >> 56);
    if (index >= c->worker_count) {
        pipe_reply(&c->pipe, f, CTL_GONE, "");
        return;
    }
    struct mail_move mm = {.ref = f->ref,
                           .session = m->session,
                           .flow = {.listener = m->listener,
                                    .transport = m->transport,
                                    .client = m->client,
                                    .server = m->server},
                           .home = socket_spread(&m->client, c->worker_count)};
    office_mail(c, index, MAIL_MOVE, &mm, sizeof(mm));
}
