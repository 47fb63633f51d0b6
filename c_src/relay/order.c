/*
 * Erlang's orders, as far as they are no single worker's: the start, listeners, relayed addresses
 * and their ports, policy, bandwidth of users, counters. What is left goes to the worker whose
 * number is the top byte of the session or flow.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "log.h"
#include "socket.h"

/* Addresses of the host are read again so often: they may come and go. */
enum { RESCAN_MS = 10000 };

static void reply(struct control *c, const struct ctl_frame *to, enum ctl_status status,
                  const char *detail)
{
    struct ctl_frame f = {.code = CTL_REPLY,
                          .ref = to->ref,
                          .u.reply = {.command = to->code,
                                      .status = status,
                                      .detail = ctl_bytes_of(detail, strlen(detail))}};
    control_send(c, &f);
}

static void report_io(struct control *c, const char *why)
{
    struct socket_buffers granted = socket_buffers_granted(&c->buffers);
    struct ctl_frame f = {.code = CTL_IO,
                          .u.io = {.io_backend = (uint8_t)c->backend,
                                   .receive_buffer = granted.receive,
                                   .send_buffer = granted.send,
                                   .detail = ctl_bytes_of(why, strlen(why))}};
    control_send(c, &f);
}

static void config(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_config *m = &f->u.config;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = m->workers ? m->workers : (unsigned)MAX(cpus, 1);
    if (c->workers || n > WORKERS_MAX || m->nonce_key.len != STUN_NONCE_KEY_LEN ||
        m->sessions_max == 0 || m->peers_max == 0 || m->credits == 0 ||
        m->channel_max < CHANNEL_MIN || m->channel_max > CHANNEL_MAX_WIDE ||
        m->io_backend > BACKEND_EPOLL) {
        reply(c, f, CTL_REFUSED, c->workers ? "CONFIG came before" : "CONFIG value out of range");
        return;
    }
    char why[BACKEND_WHY_MAX];
    if (backend_choose((enum backend)m->io_backend, &c->backend, why) != 0) {
        char detail[BACKEND_WHY_MAX + 32];
        snprintf(detail, sizeof(detail), "io_uring is refused (%s)", why);
        reply(c, f, CTL_FAILED, detail);
        return;
    }
    struct worker_config wc = {.sessions_max = m->sessions_max,
                               .peers_max = m->peers_max,
                               .credits = m->credits,
                               .nonce_lifetime_s = m->nonce_lifetime_s,
                               .nonce_features = m->nonce_features,
                               .channel_max = m->channel_max,
                               .rfc3489 = m->rfc3489 != 0,
                               .limits = &c->limits,
                               .ports = &c->ports,
                               .doorbell = c->doorbell,
                               .tell = control_tell,
                               .tell_ctx = c,
                               .backend = c->backend};
    memcpy(wc.nonce_key, m->nonce_key.data, STUN_NONCE_KEY_LEN);
    c->buffers = (struct socket_buffers){m->receive_buffer, m->send_buffer};
    ports_init(&c->ports, &c->buffers);
    ratelimit_init(&c->limits.unauthenticated, m->unauthenticated_rate, m->unauthenticated_burst);
    shared_bucket_set(&c->limits.total, bandwidth(m->bytes_per_s));
    c->limits.users_max = m->sessions_max + 1;
    c->limits.users = memory_reserve(c->limits.users_max * sizeof(*c->limits.users));
    c->workers = calloc(n, sizeof(*c->workers));
    int ret = c->workers && c->limits.users ? 0 : -ENOMEM;
    for (unsigned i = 0; ret == 0 && i < n; i++) {
        wc.index = i;
        ret = worker_init(&c->workers[i], &wc, c->time);
        if (ret == 0 && (ret = worker_start(&c->workers[i])) != 0)
            worker_destroy(&c->workers[i]);
        if (ret == 0)
            c->worker_count++;
    }
    crypto_zero(wc.nonce_key, sizeof(wc.nonce_key));
    reply(c, f, ret ? CTL_FAILED : CTL_OK, ret ? strerror(-ret) : "");
    if (ret == 0)
        report_io(c, why);
}

/* Every worker gets its own copy, for it frees the one before by itself. */
static void spread_policy(struct control *c)
{
    struct addr listeners[LISTENERS_MAX];
    uint32_t n = 0;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used)
            listeners[n++] = c->listeners[i].local;
    const struct policy_host host = {
        c->own, c->own_count, c->broadcast, c->broadcast_count, listeners, n};
    for (unsigned i = 0; c->has_rules && i < c->worker_count; i++) {
        struct policy *p = policy_make(c->rules, c->rules_len, &host);
        if (p)
            control_mail(c, i, MAIL_POLICY, &p, sizeof(p));
    }
}

static void policy(struct control *c, const struct ctl_frame *f)
{
    struct ctl_bytes rules = f->u.policy.rules;
    struct policy *probe = policy_make(rules.data, rules.len, &(struct policy_host){0});
    uint8_t *copy = malloc(rules.len + 1u);
    if (!probe || !copy) {
        policy_free(probe);
        free(copy);
        reply(c, f, CTL_REFUSED, "malformed rules");
        return;
    }
    policy_free(probe);
    if (rules.len)
        memcpy(copy, rules.data, rules.len);
    free(c->rules);
    c->rules = copy;
    c->rules_len = rules.len;
    c->has_rules = true;
    spread_policy(c);
    reply(c, f, CTL_OK, "");
}

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

void order_scan_host(struct control *c)
{
    struct ifaddrs *all;
    static struct addr own[OWN_MAX], broadcast[OWN_MAX]; /* of this thread alone */
    uint32_t n = 0, m = 0;
    c->next_scan = c->time.now + RESCAN_MS * NS_PER_MS;
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *i = all; i && n < OWN_MAX; i = i->ifa_next) {
        n += read_ifaddr(&own[n], i->ifa_addr);
        if (i->ifa_flags & IFF_BROADCAST && m < OWN_MAX)
            m += read_ifaddr(&broadcast[m], i->ifa_broadaddr);
    }
    freeifaddrs(all);
    if (n == c->own_count && m == c->broadcast_count && same_addrs(own, c->own, n) &&
        same_addrs(broadcast, c->broadcast, m))
        return;
    memcpy(c->own, own, n * sizeof(own[0]));
    memcpy(c->broadcast, broadcast, m * sizeof(broadcast[0]));
    c->own_count = n;
    c->broadcast_count = m;
    spread_policy(c);
}

static void listening(struct control *c, const struct ctl_frame *f, enum ctl_status status,
                      const struct addr *local, const char *detail)
{
    struct ctl_frame out = {.code = CTL_LISTENING,
                            .ref = f->ref,
                            .u.listening = {.listener = f->u.listen.listener,
                                            .status = status,
                                            .detail = ctl_bytes_of(detail, strlen(detail))}};
    if (local)
        out.u.listening.local = *local;
    control_send(c, &out);
}

static bool is_realm(struct ctl_bytes realm)
{
    return realm.len > 0 && realm.len < REALM_MAX;
}

static struct mail_listen mail_of(const struct ctl_listen *m, const struct addr *local, int fd)
{
    struct mail_listen ml = {.id = m->listener,
                             .fd = fd,
                             .transport = m->transport,
                             .local = *local,
                             .other = m->other,
                             .realm_len = m->realm.len};
    memcpy(ml.realm, m->realm.data, m->realm.len);
    return ml;
}

/* Realm and other address of a listener that is open. */
static void listen_again(struct control *c, const struct ctl_frame *f, const struct addr *local)
{
    const struct ctl_listen *m = &f->u.listen;
    struct mail_listen ml = mail_of(m, local, -1);
    for (unsigned i = 0; i < c->worker_count; i++)
        control_mail(c, i, MAIL_LISTEN, &ml, sizeof(ml));
    listening(c, f, CTL_OK, local, "");
}

static int listener_slot(const struct control *c, uint32_t id)
{
    for (int i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used && !c->listeners[i].closing && c->listeners[i].id == id)
            return i;
    return -1;
}

static int free_slot(const struct control *c)
{
    for (int i = 0; i < LISTENERS_MAX; i++)
        if (!c->listeners[i].used)
            return i;
    return -1;
}

/* Is it the one that was asked for? A port of 0 was the system's to choose. */
static bool is_local(const struct addr *bound, const struct addr *asked)
{
    return addr_ip_equal(bound, asked) && (asked->port == 0 || asked->port == bound->port);
}

static void listen_on(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_listen *m = &f->u.listen;
    struct addr local = m->local;
    int fds[WORKERS_MAX];
    int known = listener_slot(c, m->listener), slot = free_slot(c);
    if (known >= 0 && is_local(&c->listeners[known].local, &local) && is_realm(m->realm)) {
        listen_again(c, f, &c->listeners[known].local);
        return;
    }
    if (!c->workers || known >= 0 || slot < 0 || m->transport != IPPROTO_UDP ||
        local.family == ADDR_NONE || !is_realm(m->realm)) {
        listening(c, f, CTL_REFUSED, NULL, "no CONFIG yet, id in use, or value out of range");
        return;
    }
    int ret = socket_open_group(&local, c->worker_count, &c->buffers, fds);
    if (ret) {
        listening(c, f, CTL_FAILED, NULL, strerror(-ret));
        return;
    }
    c->listeners[slot].id = m->listener;
    c->listeners[slot].local = local;
    c->listeners[slot].used = true;
    c->listeners[slot].closing = false;
    c->listeners[slot].idle = 0;
    spread_policy(c); /* before the first packet: our own port is no peer */
    for (unsigned i = 0; i < c->worker_count; i++) {
        struct mail_listen ml = mail_of(m, &local, fds[i]);
        control_mail(c, i, MAIL_LISTEN, &ml, sizeof(ml));
    }
    listening(c, f, CTL_OK, &local, "");
}

static void relay_address(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_relay_address *m = &f->u.relay_address;
    if (!c->workers) {
        reply(c, f, CTL_REFUSED, "no CONFIG yet");
        return;
    }
    int ret = ports_add(&c->ports, m->pool, &m->local, &m->advertised, m->min_port, m->max_port);
    if (ret == 0) { /* can it be bound at all? better said now than at the first Allocate */
        int fd = socket_open_relayed(&m->local, NULL);
        if (fd >= 0)
            close(fd);
        else
            ret = fd;
        ports_find(&c->ports, m->pool)->closed = ret != 0;
    }
    reply(c, f, ret ? CTL_FAILED : CTL_OK, ret ? strerror(-ret) : "");
    spread_policy(c);
}

static void pool_close(struct control *c, const struct ctl_frame *f)
{
    struct pool *pool = ports_find(&c->ports, f->u.pool_close.pool);
    if (pool)
        pool->closed = true;
    reply(c, f, pool ? CTL_OK : CTL_GONE, "");
}

static enum ctl_status status_of(int err)
{
    return err == -EADDRINUSE ? CTL_NO_PORTS : CTL_FAILED;
}

static void alloc_refused(struct control *c, const struct ctl_frame *f, enum ctl_status status,
                          const struct mail_alloc *m)
{
    struct ctl_frame out = {.code = CTL_ALLOC_CREATED,
                            .ref = f->ref,
                            .u.alloc_created = {.session = f->u.alloc_create.session,
                                                .status = status,
                                                .status_v4 = m->status[0],
                                                .status_v6 = m->status[1]}};
    control_send(c, &out);
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

/* Ports are chosen and sockets bound here; the worker does the rest, and replies. */
static void alloc_create(struct control *c, const struct ctl_frame *f)
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
                            .bucket = m->bucket};
    const uint32_t pools[2] = {m->pool_v4, m->pool_v6};
    const uint16_t wanted[2] = {m->port_v4, m->port_v6};
    enum ctl_status status = CTL_GONE;
    bool named = m->port_v4 || m->port_v6;
    if (index >= c->worker_count) {
        alloc_refused(c, f, CTL_REFUSED, &ma);
        return;
    }
    /* What is replayed may have moved since its session got its worker. */
    ma.home = named ? socket_spread(&m->client, c->worker_count) : index;
    struct port held;
    if (m->token && !port_redeem(&c->ports, m->token, c->time.now, &held)) {
        alloc_refused(c, f, CTL_BAD_TOKEN, &ma);
        return;
    }
    if (m->token)
        ma.relayed[held.pool->local.family == ADDR_V6] = held;
    for (int i = 0; !m->token && i < 2; i++) {
        uint64_t token;
        if (!pools[i])
            continue;
        int ret = ports_take(&c->ports, pools[i], i ? ADDR_V6 : ADDR_V4, wanted[i],
                             (enum port_even)m->even, c->time.now, &ma.relayed[i], &token);
        ma.token = token ? token : ma.token;
        ma.status[i] = ret ? status_of(ret) : CTL_OK;
        status = ma.status[i];
    }
    if (named && (ma.status[0] || ma.status[1])) {
        status = ma.status[0] ? ma.status[0] : ma.status[1];
        give_back(&ma);
    }
    if (!ma.relayed[0].pool && !ma.relayed[1].pool) {
        alloc_refused(c, f, status, &ma);
        return;
    }
    control_mail(c, index, MAIL_ALLOC, &ma, sizeof(ma));
}

/* u32 pool, u32 ports free, for each; how many bytes that takes. */
static size_t pools_free(const struct ports *p, uint8_t out[POOLS_MAX * 8])
{
    uint32_t n = atomic_load_explicit(&p->pool_count, memory_order_relaxed);
    for (uint32_t i = 0; i < n; i++) {
        store32(out + i * 8, p->pools[i].id);
        store32(out + i * 8 + 4, pool_free(&p->pools[i]));
    }
    return n * 8;
}

static void stats(struct control *c, const struct ctl_frame *f)
{
    uint8_t counters[COUNTER_COUNT * 8];
    uint8_t pools[POOLS_MAX * 8];
    struct ctl_frame out = {.code = CTL_STATS_REPLY, .ref = f->ref};
    struct ctl_stats_reply *r = &out.u.stats_reply;
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        uint64_t sum = 0;
        for (unsigned w = 0; w < c->worker_count; w++)
            sum += atomic_load_explicit(&c->workers[w].counters[i], memory_order_relaxed);
        store64(counters + i * 8, sum);
    }
    for (unsigned w = 0; w < c->worker_count; w++) {
        r->sessions += atomic_load_explicit(&c->workers[w].sessions_live, memory_order_relaxed);
        r->peers += atomic_load_explicit(&c->workers[w].peers_live, memory_order_relaxed);
        r->requests += atomic_load_explicit(&c->workers[w].requests_live, memory_order_relaxed);
        r->mail_in += mailbox_waiting(&c->workers[w].in);
        r->mail_out += mailbox_waiting(&c->workers[w].out);
    }
    r->workers = (uint16_t)c->worker_count;
    r->io_backend = (uint8_t)c->backend;
    r->mail_out += (uint32_t)(c->out_len - c->out_sent);
    r->ports_free = ports_free(&c->ports);
    r->pools = ctl_bytes_of(pools, pools_free(&c->ports, pools));
    r->counters = ctl_bytes_of(counters, sizeof(counters));
    control_send(c, &out);
}

static void unlisten(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    int i = listener_slot(c, f->u.unlisten.listener);
    if (i < 0) {
        reply(c, f, CTL_GONE, "");
        return;
    }
    c->listeners[i].closing = true;
    for (unsigned w = 0; w < c->worker_count; w++)
        control_mail(c, w, MAIL_FRAME, frame, len);
    reply(c, f, CTL_OK, "");
}

void order_listener_idle(struct control *c, uint32_t id)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (!c->listeners[i].used || c->listeners[i].id != id ||
            ++c->listeners[i].idle < c->worker_count)
            continue;
        c->listeners[i].used = false;
        for (unsigned w = 0; w < c->worker_count; w++)
            control_mail(c, w, MAIL_OVER, &id, sizeof(id));
        spread_policy(c);
    }
}

static void tune(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    const struct ctl_tune *m = &f->u.tune;
    if (!c->workers || m->channel_max < CHANNEL_MIN || m->channel_max > CHANNEL_MAX_WIDE) {
        reply(c, f, CTL_REFUSED, c->workers ? "TUNE value out of range" : "no CONFIG yet");
        return;
    }
    struct socket_buffers buffers = {m->receive_buffer, m->send_buffer};
    bool other = !socket_buffers_equal(&buffers, &c->buffers);
    c->buffers = buffers;
    ports_buffers(&c->ports, &buffers);
    ratelimit_set(&c->limits.unauthenticated, m->unauthenticated_rate, m->unauthenticated_burst);
    for (unsigned i = 0; i < c->worker_count; i++)
        control_mail(c, i, MAIL_FRAME, frame, len);
    reply(c, f, CTL_OK, "");
    if (other)
        report_io(c, "");
}

static void bucket(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_bucket *m = &f->u.bucket;
    if (m->bucket == 0)
        shared_bucket_set(&c->limits.total, bandwidth(m->bytes_per_s));
    else if (m->bucket < c->limits.users_max)
        shared_bucket_set(&c->limits.users[m->bucket], bandwidth(m->bytes_per_s));
}

static void alloc_move(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_alloc_move *m = &f->u.alloc_move;
    unsigned index = (unsigned)(m->session >> 56);
    if (index >= c->worker_count) {
        reply(c, f, CTL_GONE, "");
        return;
    }
    struct mail_move mm = {.ref = f->ref,
                           .session = m->session,
                           .flow = {m->listener, m->transport, m->client, m->server},
                           .home = socket_spread(&m->client, c->worker_count)};
    control_mail(c, index, MAIL_MOVE, &mm, sizeof(mm));
}

/* The worker a command is for is the top byte of its session or flow, its first field. */
static void forward_to_worker(struct control *c, const struct ctl_frame *f, const uint8_t *frame,
                              size_t len)
{
    unsigned index = frame[CTL_HEADER_LEN];
    if (index < c->worker_count)
        control_mail(c, index, MAIL_FRAME, frame, len);
    else if (f->code != CTL_ANSWER && f->code != CTL_ANSWER_IF)
        reply(c, f, CTL_GONE, "");
}

void order_frame(struct control *c, const uint8_t *frame, size_t len)
{
    struct ctl_frame f;
    enum ctl_err err = ctl_decode(&f, frame, len);
    if (err != CTL_ERR_NONE || ctl_code_way(f.code) != CTL_E2R) {
        log_error("frame from Erlang is not in the protocol: %s",
                  err ? ctl_err_name(err) : ctl_code_name(f.code));
        c->finished = true;
        c->exit_status = EXIT_PROTOCOL;
        return;
    }
    switch (f.code) {
    case CTL_CONFIG:
        config(c, &f);
        break;
    case CTL_LISTEN:
        listen_on(c, &f);
        break;
    case CTL_UNLISTEN:
        unlisten(c, &f, frame, len);
        break;
    case CTL_RELAY_ADDRESS:
        relay_address(c, &f);
        break;
    case CTL_TUNE:
        tune(c, &f, frame, len);
        break;
    case CTL_POOL_CLOSE:
        pool_close(c, &f);
        break;
    case CTL_POLICY:
        policy(c, &f);
        break;
    case CTL_ALLOC_CREATE:
        alloc_create(c, &f);
        break;
    case CTL_BUCKET:
        bucket(c, &f);
        break;
    case CTL_ALLOC_MOVE:
        alloc_move(c, &f);
        break;
    case CTL_STOP:
        c->finished = true;
        break;
    case CTL_STATS:
        stats(c, &f);
        break;
    default:
        forward_to_worker(c, &f, frame, len);
    }
}
