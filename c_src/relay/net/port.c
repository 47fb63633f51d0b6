#include "port.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "crypto.h"
#include "socket.h"

/* A port serves one allocation, be it over UDP or TCP. */
enum port_state { PORT_FREE = 0, PORT_LIVE, PORT_HELD, PORT_STREAM };

enum {
    TRIES_MAX = 128,       /* ports others may hold before we give up */
    DESCRIPTORS_KEPT = 64, /* for what is no relayed socket: listeners, looks at the host */
};

/* The kernel gives the lowest number that is free, so that a limit of numbers is one of how many.
 */
static int descriptors_for_ports(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)(l.rlim_cur - MIN(l.rlim_cur / 4, (rlim_t)DESCRIPTORS_KEPT));
}

void ports_init(struct ports *p, const struct socket_buffers *buffers)
{
    memset(p, 0, sizeof(*p));
    p->buffers = socket_buffers_relayed(buffers);
    p->descriptors = descriptors_for_ports();
}

void ports_buffers(struct ports *p, const struct socket_buffers *buffers)
{
    p->buffers = socket_buffers_relayed(buffers);
}

void ports_destroy(struct ports *p)
{
    for (size_t i = 0; i < RESERVATIONS_MAX; i++)
        if (p->reservations[i].token)
            close(p->reservations[i].fd);
    while (p->pool_count > 0)
        pool_drop(p->pools[--p->pool_count]);
}

struct pool *ports_find(const struct ports *p, uint32_t id)
{
    for (uint32_t i = 0; i < p->pool_count; i++)
        if (p->pools[i]->id == id)
            return p->pools[i];
    return NULL;
}

/* ------------------------------------------------------------------------------ the free lists */

static void put_free(struct pool *pool, uint16_t port)
{
    unsigned odd = port & 1;
    pool->position[port - pool->min] = (uint16_t)pool->free_count[odd];
    pool->free[odd][pool->free_count[odd]++] = port;
    atomic_store_explicit(&pool->state[port - pool->min], PORT_FREE, memory_order_relaxed);
}

static void take_free(struct pool *pool, uint16_t port, enum port_state state)
{
    unsigned odd = port & 1;
    uint16_t hole = pool->position[port - pool->min];
    uint16_t last = pool->free[odd][--pool->free_count[odd]];
    pool->free[odd][hole] = last;
    pool->position[last - pool->min] = hole;
    atomic_store_explicit(&pool->state[port - pool->min], state, memory_order_relaxed);
}

static bool is_free(const struct pool *pool, uint32_t port)
{
    return port >= pool->min && port <= pool->max &&
           atomic_load_explicit(&pool->state[port - pool->min], memory_order_relaxed) == PORT_FREE;
}

static bool is_same(const struct pool *pool, const struct addr *local,
                    const struct addr *advertised, uint16_t min, uint16_t max)
{
    return addr_ip_equal(&pool->local, local) && addr_ip_equal(&pool->advertised, advertised) &&
           pool->min == min && pool->max == max;
}

static int reopen(struct pool *pool, bool same)
{
    if (!same)
        return -EEXIST;
    pool->closed = false;
    return 0;
}

struct pool *pool_hold(struct pool *pool)
{
    atomic_fetch_add_explicit(&pool->holds, 1, memory_order_relaxed);
    return pool;
}

void pool_drop(struct pool *pool)
{
    if (!pool || atomic_fetch_sub_explicit(&pool->holds, 1, memory_order_acq_rel) != 1)
        return;
    free(pool->free[0]);
    free(pool->free[1]);
    free(pool->position);
    free(pool->state);
    free(pool->session);
    free(pool);
}

static bool is_idle(const struct pool *pool)
{
    return pool->closed &&
           pool->free_count[0] + pool->free_count[1] == (uint32_t)pool->max - pool->min + 1;
}

/* Forgets idle pools, of those that gave ports or of all. */
static bool sweep(struct ports *p, bool all)
{
    uint32_t kept = 0, n = p->pool_count;
    for (uint32_t i = 0; i < n; i++) {
        struct pool *pool = p->pools[i];
        if (is_idle(pool) && (all || pool->used))
            pool_drop(pool);
        else
            p->pools[kept++] = pool;
    }
    p->pool_count = kept;
    return kept < n;
}

bool ports_sweep(struct ports *p)
{
    return sweep(p, false);
}

static struct pool *pool_make(uint32_t id, const struct addr *local, const struct addr *advertised,
                              uint16_t min, uint16_t max)
{
    size_t count = (size_t)max - min + 1;
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return NULL;
    *pool =
        (struct pool){.id = id, .local = *local, .advertised = *advertised, .min = min, .max = max};
    atomic_init(&pool->holds, 1);
    pool->local.port = pool->advertised.port = 0;
    pool->free[0] = malloc(count * sizeof(uint16_t));
    pool->free[1] = malloc(count * sizeof(uint16_t));
    pool->position = malloc(count * sizeof(uint16_t));
    pool->state = calloc(count, sizeof(*pool->state));
    pool->session = calloc(count, sizeof(*pool->session));
    if (!pool->free[0] || !pool->free[1] || !pool->position || !pool->state || !pool->session) {
        pool_drop(pool);
        return NULL;
    }
    for (uint32_t port = min; port <= max; port++)
        put_free(pool, (uint16_t)port);
    return pool;
}

int ports_add(struct ports *p, uint32_t id, const struct addr *local, const struct addr *advertised,
              uint16_t min, uint16_t max)
{
    if (min == 0 || min > max || local->family == ADDR_NONE || local->family != advertised->family)
        return -EINVAL;
    struct pool *known = ports_find(p, id);
    if (known)
        return reopen(known, is_same(known, local, advertised, min, max));
    if (p->pool_count == POOLS_MAX && !sweep(p, true))
        return -ENOSPC;
    struct pool *pool = pool_make(id, local, advertised, min, max);
    if (!pool)
        return -ENOMEM;
    p->pools[p->pool_count++] = pool;
    return 0;
}

/* ------------------------------------------------------------------------------- taking a port */

static uint32_t random_below(uint32_t n)
{
    uint32_t r, limit = UINT32_MAX - UINT32_MAX % n;
    do
        crypto_random(&r, sizeof(r));
    while (r >= limit);
    return r % n;
}

/* A free port at random; for a pair, an even one whose successor is free. 0 when there is none. */
static uint16_t choose(const struct pool *pool, enum port_even even)
{
    uint32_t evens = pool->free_count[0], odds = pool->free_count[1];
    if (even == PORT_ANY) {
        if (evens + odds == 0)
            return 0;
        uint32_t i = random_below(evens + odds);
        return i < evens ? pool->free[0][i] : pool->free[1][i - evens];
    }
    if (evens == 0)
        return 0;
    uint32_t start = random_below(evens);
    if (even == PORT_EVEN)
        return pool->free[0][start];
    for (uint32_t i = 0; i < evens; i++) {
        uint16_t port = pool->free[0][(start + i) % evens];
        if (is_free(pool, (uint32_t)port + 1))
            return port;
    }
    return 0;
}

static struct addr with_port(const struct pool *pool, uint16_t port)
{
    struct addr a = pool->local;
    a.port = port;
    return a;
}

/* One whose number is kept back for others is none. */
static int unless_kept_back(const struct ports *p, int fd)
{
    if (fd < p->descriptors)
        return fd;
    close(fd);
    return -EMFILE;
}

static int bind_port(struct ports *p, const struct pool *pool, uint16_t port,
                     struct socket_past *past)
{
    struct addr a = with_port(pool, port);
    *past = (struct socket_past){0};
    int left = p->left ? left_take(p->left, LEFT_RELAYED, &a, past) : -1;
    if (left >= 0)
        return left;
    return unless_kept_back(p, socket_open_relayed(&a, &p->buffers));
}

static int bind_stream(struct ports *p, const struct pool *pool, uint16_t port)
{
    struct addr a = with_port(pool, port);
    struct socket_past none;
    int left = p->left ? left_take(p->left, LEFT_RELAYED_STREAM, &a, &none) : -1;
    if (left >= 0)
        return left;
    return unless_kept_back(p, socket_open_relayed_stream(&a));
}

static struct reservation *free_reservation(struct ports *p)
{
    if (p->reserved == RESERVATIONS_MAX)
        return NULL;
    for (size_t i = 0; i < RESERVATIONS_MAX; i++)
        if (!p->reservations[i].token)
            return &p->reservations[i];
    return NULL;
}

static void hold(struct ports *p, struct reservation *r, struct pool *pool, uint16_t port, int fd,
                 uint64_t now)
{
    take_free(pool, port, PORT_HELD);
    *r = (struct reservation){
        .expires = now + RESERVATION_S * NS_PER_S, .pool = pool, .port = port, .fd = fd};
    do
        crypto_random(&r->token, sizeof(r->token));
    while (r->token == 0);
    p->reserved++;
}

int port_take(struct ports *p, struct pool *pool, uint16_t wanted, enum port_even even,
              uint64_t now, struct port *out, uint64_t *token)
{
    struct reservation *r = NULL;
    *token = 0;
    if (even == PORT_EVEN_PAIR && !(r = free_reservation(p)))
        return -EADDRINUSE;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        uint16_t port = wanted ? wanted : choose(pool, even);
        if (port == 0 || !is_free(pool, port))
            return -EADDRINUSE;
        struct socket_past past, of_next;
        int fd = bind_port(p, pool, port, &past);
        int next_fd = fd >= 0 && r ? bind_port(p, pool, (uint16_t)(port + 1), &of_next) : fd;
        if (fd >= 0 && next_fd >= 0) {
            pool->used = true;
            take_free(pool, port, PORT_LIVE);
            *out = (struct port){pool, port, fd, past};
            if (r) {
                hold(p, r, pool, (uint16_t)(port + 1), next_fd, now);
                *token = r->token;
            }
            return 0;
        }
        int err = fd < 0 ? fd : next_fd;
        if (fd >= 0)
            close(fd);
        if (err != -EADDRINUSE || wanted)
            return err;
        /* Somebody else's; another one then. */
    }
    return -EADDRINUSE;
}

/* The pool to try next, of those not tried; NULL when there is none left. */
static struct pool *next_pool(struct ports *p, uint32_t id, uint8_t family, bool tried[POOLS_MAX])
{
    uint32_t best = p->pool_count;
    for (uint32_t i = 0; i < p->pool_count; i++) {
        const struct pool *pool = p->pools[i];
        if (pool->closed || pool->local.family != family || tried[i])
            continue;
        if (best == p->pool_count || pool->id == id ||
            (p->pools[best]->id != id && pool_free(pool) > pool_free(p->pools[best])))
            best = i;
    }
    if (best == p->pool_count)
        return NULL;
    tried[best] = true;
    return p->pools[best];
}

int ports_take(struct ports *p, uint32_t id, uint8_t family, uint16_t wanted, enum port_even even,
               uint64_t now, struct port *out, uint64_t *token)
{
    struct pool *pool = ports_find(p, id);
    int ret = -EADDRINUSE;
    bool tried[POOLS_MAX] = {false};
    *token = 0;
    if (wanted)
        return pool && pool->local.family == family
                   ? port_take(p, pool, wanted, even, now, out, token)
                   : ret;
    while ((pool = next_pool(p, id, family, tried))) {
        ret = port_take(p, pool, 0, even, now, out, token);
        if (ret == 0)
            return 0;
    }
    return ret;
}

static int take_stream(struct ports *p, struct pool *pool, uint16_t wanted, struct port *out)
{
    int fd = -EADDRINUSE;
    for (int tries = 0; tries < TRIES_MAX && fd == -EADDRINUSE; tries++) {
        uint16_t port = wanted ? wanted : choose(pool, PORT_ANY);
        if (port == 0 || !is_free(pool, port))
            return -EADDRINUSE;
        fd = bind_stream(p, pool, port);
        if (fd >= 0) {
            pool->used = true;
            take_free(pool, port, PORT_STREAM);
            *out = (struct port){.pool = pool, .port = port, .fd = fd};
        } else if (wanted) {
            return fd;
        }
    }
    return MIN(fd, 0);
}

int ports_take_stream(struct ports *p, uint32_t id, uint8_t family, uint16_t wanted,
                      struct port *out)
{
    struct pool *pool = ports_find(p, id);
    int ret = -EADDRINUSE;
    bool tried[POOLS_MAX] = {false};
    if (wanted)
        return pool && pool->local.family == family ? take_stream(p, pool, wanted, out) : ret;
    while (ret != 0 && (pool = next_pool(p, id, family, tried)))
        ret = take_stream(p, pool, 0, out);
    return ret;
}

bool port_redeem(struct ports *p, uint64_t token, uint64_t now, struct port *out)
{
    if (token == 0 || p->reserved == 0)
        return false;
    for (size_t i = 0; i < RESERVATIONS_MAX; i++) {
        struct reservation *r = &p->reservations[i];
        if (r->token != token || r->expires <= now)
            continue;
        atomic_store_explicit(&r->pool->state[r->port - r->pool->min], PORT_LIVE,
                              memory_order_relaxed);
        *out = (struct port){.pool = r->pool, .port = r->port, .fd = r->fd};
        *r = (struct reservation){0};
        p->reserved--;
        return true;
    }
    return false;
}

void port_release(struct pool *pool, uint16_t port)
{
    put_free(pool, port);
}

uint64_t ports_expire(struct ports *p, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; p->reserved && i < RESERVATIONS_MAX; i++) {
        struct reservation *r = &p->reservations[i];
        if (!r->token)
            continue;
        if (r->expires > now) {
            next = MIN(next, r->expires);
            continue;
        }
        close(r->fd);
        put_free(r->pool, r->port);
        *r = (struct reservation){0};
        p->reserved--;
    }
    return next;
}

uint32_t pool_free(const struct pool *pool)
{
    return pool->closed || pool->away ? 0 : pool->free_count[0] + pool->free_count[1];
}

uint32_t ports_free(const struct ports *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->pool_count; i++)
        n += pool_free(p->pools[i]);
    return n;
}

static bool has_state(const struct pool *pool, uint16_t port, enum port_state state)
{
    return port >= pool->min && port <= pool->max &&
           atomic_load_explicit(&pool->state[port - pool->min], memory_order_relaxed) == state;
}

bool port_is_live(const struct pool *pool, uint16_t port)
{
    return has_state(pool, port, PORT_LIVE);
}

bool port_is_stream(const struct pool *pool, uint16_t port)
{
    return has_state(pool, port, PORT_STREAM);
}
