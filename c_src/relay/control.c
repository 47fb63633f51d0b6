#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"
#include "socket.h"
#include "worker.h"

enum {
    FRAME_MAX = 256 * 1024,
    OUT_SIZE = 512 * 1024,
    OWN_MAX = 256,
    EXIT_PROTOCOL = 64,
    EXIT_SYSTEM = 71,
    /* Addresses of the host are read again so often: they may come and go. */
    RESCAN_MS = 10000,
};

struct control {
    int in_fd, out_fd, doorbell;
    uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len, out_sent;
    struct worker *workers;
    unsigned worker_count;
    struct ports ports;
    struct limits limits;
    uint32_t receive_buffer;
    struct clock_time time;
    uint64_t next_expiry; /* of a reservation */
    uint64_t next_scan;
    /* What the current policy is made of. */
    uint8_t *rules;
    size_t rules_len;
    bool has_rules;
    struct addr own[OWN_MAX];
    uint32_t own_count;
    struct addr broadcast[OWN_MAX];
    uint32_t broadcast_count;
    struct {
        uint32_t id;
        struct addr local;
        bool used;
    } listeners[LISTENERS_MAX];
    bool finished;
    int exit_status;
};

/* ------------------------------------------------------------------------------ towards Erlang */

/* Half the buffer is kept for the replies of this thread: nothing more is taken in below that. */
static bool has_room(const struct control *c)
{
    return OUT_SIZE - c->out_len > OUT_SIZE / 2;
}

static void put_frame(struct control *c, const uint8_t *frame, size_t len)
{
    if (OUT_SIZE - c->out_len < len + 4) {
        log_error("no room for a frame to Erlang");
        c->finished = true;
        c->exit_status = EXIT_SYSTEM;
        return;
    }
    store32(c->out + c->out_len, (uint32_t)len);
    memcpy(c->out + c->out_len + 4, frame, len);
    c->out_len += len + 4;
}

static void send_frame(struct control *c, const struct ctl_frame *f)
{
    static uint8_t buf[64 * 1024]; /* of this thread alone */
    size_t len = ctl_encode(f, buf, sizeof(buf));
    put_frame(c, buf, len);
}

static void reply(struct control *c, const struct ctl_frame *to, enum ctl_status status,
                  const char *detail)
{
    struct ctl_frame f = {.code = CTL_REPLY,
                          .ref = to->ref,
                          .u.reply = {.command = to->code,
                                      .status = status,
                                      .detail = ctl_bytes_of(detail, strlen(detail))}};
    send_frame(c, &f);
}

/* Writes what the pipe takes. */
static void flush_out(struct control *c)
{
    while (c->out_sent < c->out_len) {
        ssize_t n = write(c->out_fd, c->out + c->out_sent, c->out_len - c->out_sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                c->finished = true; /* Erlang is gone */
            return;
        }
        c->out_sent += (size_t)n;
    }
    c->out_len = c->out_sent = 0;
}

/* ----------------------------------------------------------------------------- towards workers */

static void read_mail(struct control *c, struct worker *w);

/* Waits for the worker to make room. It may itself be waiting for room on its way out, so that way
 * is kept open meanwhile. */
static uint8_t *post_room(struct control *c, struct worker *w, uint32_t len)
{
    uint8_t *record;
    while (!(record = mailbox_reserve(&w->in, len))) {
        struct pollfd fds[2] = {{.fd = c->out_fd, .events = c->out_len ? POLLOUT : 0},
                                {.fd = c->doorbell, .events = 0}};
        worker_wake(w);
        poll(fds, 2, 1);
        read_mail(c, w);
        flush_out(c);
        if (c->finished)
            return NULL;
    }
    return record;
}

static void mail(struct control *c, unsigned index, enum mail kind, const void *data, size_t len)
{
    struct worker *w = &c->workers[index];
    uint8_t *record = post_room(c, w, (uint32_t)(1 + len));
    if (!record)
        return;
    record[0] = (uint8_t)kind;
    if (len)
        memcpy(record + 1, data, len);
    mailbox_commit(&w->in, record, (uint32_t)(1 + len));
    worker_wake(w);
}

/* ------------------------------------------------------------------------------------ commands */

static void config(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_config *m = &f->u.config;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = m->workers ? m->workers : (unsigned)MAX(cpus, 1);
    if (c->workers || n > WORKERS_MAX || m->nonce_key.len != STUN_NONCE_KEY_LEN ||
        m->sessions_max == 0 || m->peers_max == 0 || m->credits == 0 ||
        m->channel_max < CHANNEL_MIN || m->channel_max > CHANNEL_MAX_WIDE) {
        reply(c, f, CTL_REFUSED, c->workers ? "CONFIG came before" : "CONFIG value out of range");
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
                               .doorbell = c->doorbell};
    memcpy(wc.nonce_key, m->nonce_key.data, STUN_NONCE_KEY_LEN);
    c->receive_buffer = m->receive_buffer;
    ports_init(&c->ports, m->receive_buffer);
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
            mail(c, i, MAIL_POLICY, &p, sizeof(p));
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

static void scan_own_addresses(struct control *c)
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
    send_frame(c, &out);
}

static int free_listener(const struct control *c, uint32_t id)
{
    int found = -1;
    for (int i = LISTENERS_MAX - 1; i >= 0; i--) {
        if (c->listeners[i].used && c->listeners[i].id == id)
            return -1;
        if (!c->listeners[i].used)
            found = i;
    }
    return found;
}

static void listen_on(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_listen *m = &f->u.listen;
    struct addr local = m->local;
    int fds[WORKERS_MAX];
    int slot = free_listener(c, m->listener);
    if (!c->workers || slot < 0 || m->transport != IPPROTO_UDP || local.family == ADDR_NONE ||
        m->realm.len == 0 || m->realm.len >= REALM_MAX) {
        listening(c, f, CTL_REFUSED, NULL, "no CONFIG yet, id in use, or value out of range");
        return;
    }
    int ret = socket_open_group(&local, c->worker_count, c->receive_buffer, fds);
    if (ret) {
        listening(c, f, CTL_FAILED, NULL, strerror(-ret));
        return;
    }
    c->listeners[slot].id = m->listener;
    c->listeners[slot].local = local;
    c->listeners[slot].used = true;
    spread_policy(c); /* before the first packet: our own port is no peer */
    struct mail_listen ml = {.id = m->listener,
                             .transport = m->transport,
                             .local = local,
                             .other = m->other,
                             .realm_len = m->realm.len};
    memcpy(ml.realm, m->realm.data, m->realm.len);
    for (unsigned i = 0; i < c->worker_count; i++) {
        ml.fd = fds[i];
        mail(c, i, MAIL_LISTEN, &ml, sizeof(ml));
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
        int fd = socket_open_relayed(&m->local, 0);
        if (fd >= 0)
            close(fd);
        else
            ret = fd;
    }
    reply(c, f, ret ? CTL_FAILED : CTL_OK, ret ? strerror(-ret) : "");
    spread_policy(c);
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
    send_frame(c, &out);
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
    if (index >= c->worker_count) {
        alloc_refused(c, f, CTL_REFUSED, &ma);
        return;
    }
    struct port held;
    if (m->token && !port_redeem(&c->ports, m->token, c->time.now, &held)) {
        alloc_refused(c, f, CTL_BAD_TOKEN, &ma);
        return;
    }
    if (m->token)
        ma.relayed[held.pool->local.family == ADDR_V6] = held;
    for (int i = 0; !m->token && i < 2; i++) {
        struct pool *pool = pools[i] ? ports_find(&c->ports, pools[i]) : NULL;
        if (!pool)
            continue;
        uint64_t token = 0;
        int ret = port_take(&c->ports, pool, wanted[i], (enum port_even)m->even, c->time.now,
                            &ma.relayed[i], &token);
        ma.token = token ? token : ma.token;
        ma.status[i] = ret ? status_of(ret) : CTL_OK;
        status = ma.status[i];
    }
    if (!ma.relayed[0].pool && !ma.relayed[1].pool) {
        alloc_refused(c, f, status, &ma);
        return;
    }
    mail(c, index, MAIL_ALLOC, &ma, sizeof(ma));
}

static void stats(struct control *c, const struct ctl_frame *f)
{
    uint8_t counters[COUNTER_COUNT * 8];
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
    }
    r->workers = (uint16_t)c->worker_count;
    r->ports_free = ports_free(&c->ports);
    r->counters = ctl_bytes_of(counters, sizeof(counters));
    send_frame(c, &out);
}

static void unlisten(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (!c->listeners[i].used || c->listeners[i].id != f->u.unlisten.listener)
            continue;
        c->listeners[i].used = false;
        for (unsigned w = 0; w < c->worker_count; w++)
            mail(c, w, MAIL_FRAME, frame, len);
        spread_policy(c);
        reply(c, f, CTL_OK, "");
        return;
    }
    reply(c, f, CTL_GONE, "");
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
    mail(c, index, MAIL_MOVE, &mm, sizeof(mm));
}

/* The worker a command is for is the top byte of its session or flow, its first field. */
static void forward_to_worker(struct control *c, const struct ctl_frame *f, const uint8_t *frame,
                              size_t len)
{
    unsigned index = frame[CTL_HEADER_LEN];
    if (index < c->worker_count)
        mail(c, index, MAIL_FRAME, frame, len);
    else if (f->code != CTL_ANSWER)
        reply(c, f, CTL_GONE, "");
}

static void command(struct control *c, const uint8_t *frame, size_t len)
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
    case CTL_STATS:
        stats(c, &f);
        break;
    default:
        forward_to_worker(c, &f, frame, len);
    }
}

/* ---------------------------------------------------------------------------------------- loop */

/* All whole frames in the buffer, as long as their replies have room. */
static void read_frames(struct control *c)
{
    size_t at = 0;
    while (!c->finished && c->in_len - at >= 4 && has_room(c)) {
        size_t len = load32(c->in + at);
        if (len > FRAME_MAX - 4) {
            log_error("frame from Erlang of %zu bytes", len);
            c->finished = true;
            c->exit_status = EXIT_PROTOCOL;
            return;
        }
        if (c->in_len - at - 4 < len)
            break;
        command(c, c->in + at + 4, len);
        at += 4 + len;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
}

static void read_in(struct control *c)
{
    ssize_t n = read(c->in_fd, c->in + c->in_len, FRAME_MAX - c->in_len);
    if (n > 0)
        c->in_len += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        c->finished = true; /* Erlang is gone: no relaying without a governor */
}

/* A mail for another worker, named first in it. What it carries of a client is dropped rather than
 * waited for. */
static void pass_on(struct control *c, const uint8_t *record, uint32_t len)
{
    unsigned to;
    memcpy(&to, record + 1, sizeof(to));
    if (to >= c->worker_count ||
        (record[0] == MAIL_CARRY && mailbox_room(&c->workers[to].in) < MAIL_SIZE / 4))
        return;
    mail(c, to, (enum mail)record[0], record + 1, len - 1);
}

/* Takes the oldest mail of a worker. A roam leaves its box before it is passed on, for finding room
 * for it may lead back here; a carry never waits for room. */
static void take_mail(struct control *c, struct worker *w, const uint8_t *record, uint32_t len)
{
    uint8_t roam[1 + sizeof(struct mail_roam)];
    struct mail_port port;
    switch ((enum mail)record[0]) {
    case MAIL_ROAM:
        memcpy(roam, record, sizeof(roam));
        mailbox_consume(&w->out);
        pass_on(c, roam, sizeof(roam));
        return;
    case MAIL_CARRY:
        pass_on(c, record, len);
        break;
    case MAIL_PORT_FREE:
        memcpy(&port, record + 1, sizeof(port));
        port_release(port.pool, port.port);
        break;
    default:
        put_frame(c, record + 1, len - 1);
    }
    mailbox_consume(&w->out);
}

static void read_mail(struct control *c, struct worker *w)
{
    uint32_t len;
    const uint8_t *record;
    while (has_room(c) && (record = mailbox_peek(&w->out, &len)))
        take_mail(c, w, record, len);
    if (atomic_load(&w->starved))
        worker_wake(w);
}

/* Something read before still waits, though there would be room for it now. */
static bool work_left(struct control *c)
{
    uint32_t len;
    if (!has_room(c))
        return false;
    if (c->in_len >= 4 && c->in_len - 4 >= load32(c->in))
        return true;
    for (unsigned i = 0; i < c->worker_count; i++)
        if (mailbox_peek(&c->workers[i].out, &len))
            return true;
    return false;
}

static int poll_timeout(struct control *c)
{
    if (work_left(c))
        return 0;
    uint64_t next = MIN(c->next_expiry, c->next_scan);
    return next <= c->time.now ? 0 : (int)(clock_wait(next - c->time.now) / NS_PER_MS) + 1;
}

static void turn(struct control *c)
{
    bool room = has_room(c);
    struct pollfd fds[3] = {
        {.fd = c->in_fd, .events = room && c->in_len < FRAME_MAX ? POLLIN : 0},
        {.fd = c->doorbell, .events = room ? POLLIN : 0},
        {.fd = c->out_fd, .events = c->out_len ? POLLOUT : 0},
    };
    if (poll(fds, ARRAY_SIZE(fds), poll_timeout(c)) < 0 && errno != EINTR) {
        c->finished = true;
        c->exit_status = EXIT_SYSTEM;
        return;
    }
    c->time = clock_read();
    if (fds[0].revents)
        read_in(c);
    if (fds[1].revents & POLLIN) {
        uint64_t rings;
        ssize_t ignored = read(c->doorbell, &rings, sizeof(rings));
        (void)ignored;
    }
    read_frames(c);
    for (unsigned i = 0; i < c->worker_count && !c->finished; i++)
        read_mail(c, &c->workers[i]);
    c->next_expiry = ports_expire(&c->ports, c->time.now);
    if (c->time.now >= c->next_scan)
        scan_own_addresses(c);
    flush_out(c);
}

static void hello(struct control *c)
{
    static const char build[] = __VERSION__ CLOCK_NAME;
    struct ctl_frame f = {.code = CTL_HELLO,
                          .u.hello = {.magic = CTL_MAGIC,
                                      .version = CTL_VERSION,
                                      .table_hash = ctl_table_hash(),
                                      .cpus = (uint16_t)sysconf(_SC_NPROCESSORS_ONLN),
                                      .build = ctl_bytes_of(build, sizeof(build) - 1)}};
    send_frame(c, &f);
}

static void stop_workers(struct control *c)
{
    for (unsigned i = 0; i < c->worker_count; i++) {
        atomic_store(&c->workers[i].stopping, true);
        worker_wake(&c->workers[i]);
    }
    for (unsigned i = 0; i < c->worker_count; i++) {
        pthread_join(c->workers[i].thread, NULL);
        io_destroy(c->workers[i].io);
        worker_destroy(&c->workers[i]);
    }
    free(c->workers);
}

static bool open_ends(struct control *c)
{
    c->in = malloc(FRAME_MAX);
    c->out = malloc(OUT_SIZE);
    c->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!c->in || !c->out || c->doorbell < 0) {
        log_error("cannot start: %s", strerror(errno));
        return false;
    }
    if (fcntl(c->out_fd, F_SETFL, fcntl(c->out_fd, F_GETFL) | O_NONBLOCK) != 0) {
        log_error("fd %d is not open: this program is started by Erlang", c->out_fd);
        return false;
    }
    return true;
}

int control_run(int in_fd, int out_fd)
{
    static struct control c; /* too large for a stack; there is one in a process */
    c = (struct control){.in_fd = in_fd, .out_fd = out_fd, .doorbell = -1, .time = clock_read()};
    c.next_expiry = UINT64_MAX;
    if (open_ends(&c)) {
        scan_own_addresses(&c);
        hello(&c);
        flush_out(&c);
        while (!c.finished)
            turn(&c);
        stop_workers(&c);
        ports_destroy(&c.ports);
        memory_release(c.limits.users, c.limits.users_max * sizeof(*c.limits.users));
    } else {
        c.exit_status = EXIT_SYSTEM;
    }
    free(c.in);
    free(c.out);
    free(c.rules);
    if (c.doorbell >= 0)
        close(c.doorbell);
    return c.exit_status;
}
