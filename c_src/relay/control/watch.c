/*
 * The kernel tells every change at once, and that there was more to tell than room; the reading
 * every minute is for what neither covers. Two readings are apart ten times what one takes, so that
 * a host whose addresses change all the time costs this thread a tenth of its time.
 *
 * Addresses that cannot be read are not taken to be what they were: then no peer is permitted. What
 * changes while it is read is read again; where that has no end, what was read is better than what
 * was known before, and it is read again all the same.
 */
#include "watch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "rules.h"

enum {
    BROOM_S = 60,
    AGAIN_MS = 250, /* after a failure */
    SHARE = 10,
    TORN_MAX = 8, /* readings in a row */
};

/* ------------------------------------------------------------------------------- towards Erlang */

/* Found out by binding a socket: not every local address can be bound. Where that cannot be tried,
 * for want of a descriptor, the answer is the one before. */
static bool is_away(const struct addr *local, bool before)
{
    struct addr any_port = *local;
    any_port.port = 0;
    int fd = socket_open_relayed(&any_port, NULL);
    if (fd >= 0)
        close(fd);
    return fd == -EADDRNOTAVAIL || (fd < 0 && before);
}

static uint32_t pools_away(struct control *c, uint8_t out[POOLS_MAX * 4])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->ports.pool_count; i++) {
        struct pool *pool = c->ports.pools[i];
        pool->away = is_away(&pool->local, pool->away);
        if (pool->away)
            store32(out + 4 * n++, pool->id);
    }
    return 4 * n;
}

static uint32_t listeners_away(struct control *c, uint8_t out[LISTENERS_MAX * 4])
{
    uint32_t n = 0;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used && is_away(&c->listeners[i].local, false))
            store32(out + 4 * n++, c->listeners[i].id);
    return 4 * n;
}

void watch_tell(struct control *c)
{
    uint8_t pools[POOLS_MAX * 4], listeners[LISTENERS_MAX * 4];
    const char *why = c->watch.err ? strerror(-c->watch.err) : "";
    struct ctl_frame f = {
        .code = CTL_HOST,
        .u.host = {.known = c->watch.host != NULL,
                   .pools = ctl_bytes_of(pools, pools_away(c, pools)),
                   .listeners = ctl_bytes_of(listeners, listeners_away(c, listeners)),
                   .detail = ctl_bytes_of(why, strlen(why))}};
    pipe_send(&c->pipe, &f);
}

/* ------------------------------------------------------------------------------ from the kernel */

/* NULL, and why in w->err, if they cannot be read. */
static struct host *read_host(struct watch *w)
{
    struct host_list list = {0};
    struct host *host = NULL;
    w->err = w->open ? 0 : routes_open(&w->routes);
    w->open = w->open || w->err == 0;
    if (w->open)
        w->err = routes_read(&w->routes, &list);
    w->torn = w->err == -EAGAIN ? w->torn + 1 : 0;
    if (w->torn >= TORN_MAX)
        w->err = 0;
    if (!w->err && !(host = host_make(&list)))
        w->err = -ENOMEM;
    host_list_free(&list);
    return host;
}

/* What was read takes the place of what was known; true if that is different. Owns `host`. */
static bool take(struct watch *w, struct host *host)
{
    struct host *before = w->host;
    if (w->err == -EAGAIN || (host && before && host_equal(host, before))) {
        host_drop(host);
        return false;
    }
    w->host = host;
    host_drop(before);
    return host || before;
}

static bool read_again(struct watch *w, uint64_t start)
{
    struct host *host = read_host(w);
    uint64_t now = clock_read().now;
    bool failed = w->err && w->err != -EAGAIN;
    w->changed = w->torn > 0;
    w->not_before = now + SHARE * (now - start);
    w->due = now + (failed ? AGAIN_MS * NS_PER_MS : BROOM_S * NS_PER_S);
    return take(w, host);
}

static void complain(const struct watch *w)
{
    if (w->err)
        log_error("the addresses of this host cannot be read by netlink (%s): no peer is permitted "
                  "until they can; a sandbox must allow address family AF_NETLINK",
                  strerror(-w->err));
}

void watch_start(struct control *c)
{
    do
        read_again(&c->watch, c->time.now);
    while (c->watch.err == -EAGAIN);
    complain(&c->watch);
}

void watch_stop(struct control *c)
{
    if (c->watch.open)
        routes_close(&c->watch.routes);
    host_drop(c->watch.host);
}

int watch_fd(const struct control *c)
{
    return c->watch.open ? c->watch.routes.events : -1;
}

uint64_t watch_next(const struct control *c)
{
    return c->watch.changed ? c->watch.not_before : c->watch.due;
}

void watch_turn(struct control *c)
{
    if (c->watch.told) {
        c->watch.told = false;
        c->watch.changed |= routes_changed(&c->watch.routes);
    }
    if (c->time.now < watch_next(c) || !read_again(&c->watch, c->time.now))
        return;
    complain(&c->watch);
    rules_spread(c);
    if (c->worker_count)
        watch_tell(c);
}
