#include "relay_kit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "alloc.h"

const char *kit_home = "127.0.0.1";

static void must(bool ok)
{
    if (!ok)
        abort();
}

void kit_mail(struct kit *k, enum mail kind, const void *data, size_t len)
{
    uint8_t *record = mailbox_reserve(&k->worker.shard.in, (uint32_t)(1 + len));
    must(record);
    record[0] = (uint8_t)kind;
    if (len)
        memcpy(record + 1, data, len);
    mailbox_commit(&k->worker.shard.in, record, (uint32_t)(1 + len));
}

static const struct clock_time start = {.now = 1000 * NS_PER_S, .wall_s = 1700000000};

static void place_clients(struct kit *k)
{
    must(addr_parse(&k->client, "192.0.2.9", 5000) && addr_parse(&k->peer, "198.51.100.7", 7000));
}

static int open_listener(struct kit *k, struct addr *local)
{
    int fd;
    if (!k->real)
        return eventfd(0, 0);
    must(socket_open_group(SOCK_DGRAM, local, 1, NULL, &fd) == 0);
    return fd;
}

static void start_kit(struct kit *k, uint16_t port, enum backend backend)
{
    memset(k, 0, sizeof(*k));
    k->real = backend != BACKEND_AUTO;
    ports_init(&k->ports, &(struct socket_buffers){0});
    k->limits.users = k->users;
    k->limits.users_max = ARRAY_SIZE(k->users);
    struct shard_config config = {.sessions_max = 64,
                                  .peers_max = 128,
                                  .credits = KIT_CREDITS,
                                  .nonce_lifetime_s = 3600,
                                  .channel_max = CHANNEL_MAX,
                                  .limits = &k->limits,
                                  .neighbours = k->shards,
                                  .rfc3489 = true};
    const struct worker_config ends = {.doorbell = eventfd(0, EFD_NONBLOCK)};
    memset(config.nonce_key, 0x5a, sizeof(config.nonce_key));
    must(worker_init(&k->worker, &config, &ends, start) == 0);
    struct io_events events = worker_events(&k->worker);
    if (k->real)
        must(backend_create(backend, &k->io, &events, 256) == 0);
    else
        k->io = fake_io_create(&events);
    k->worker.shard.io = k->neighbour.io = k->io;
    k->shards[0] = &k->worker.shard;
    k->shards[1] = &k->neighbour;
    must(letters_init(&k->neighbour.letters));

    struct addr v4, v6;
    must(addr_parse(&v4, kit_home, 0) && addr_parse(&v6, "::1", 0));
    must(ports_add(&k->ports, 1, &v4, &v4, 40000, 48999) == 0);
    must(ports_add(&k->ports, 2, &v6, &v6, 40000, 48999) == 0);
    must(addr_parse(&k->server, kit_home, port));
    place_clients(k);
    k->listener = kit_listen(k, 1, &k->server, NULL);
    kit_policy(k, NULL, 0);
}

void kit_start(struct kit *k)
{
    start_kit(k, 3478, BACKEND_AUTO);
}

void kit_start_on(struct kit *k, enum backend backend)
{
    start_kit(k, 0, backend);
}

struct listener *kit_listen(struct kit *k, uint32_t id, const struct addr *local,
                            const struct addr *other)
{
    struct addr bound = *local;
    int fd = open_listener(k, &bound);
    struct mail_listen ml = {.id = id,
                             .fd = fd,
                             .transport = CTL_TRANSPORT_UDP,
                             .local = bound,
                             .realm_len = 11,
                             .realm = "example.org"};
    if (other)
        ml.other = *other;
    kit_mail(k, MAIL_LISTEN, &ml, sizeof(ml));
    kit_turn(k, 0);
    return shard_listener(&k->worker.shard, id);
}

struct mail_flow kit_flow(const struct kit *k)
{
    return (struct mail_flow){
        .listener = 1, .transport = CTL_TRANSPORT_UDP, .client = k->client, .server = k->server};
}

uint16_t kit_move(struct kit *k, uint64_t session, unsigned home)
{
    struct mail_move m = {.ref = ++k->ref, .session = session, .flow = kit_flow(k), .home = home};
    kit_mail(k, MAIL_MOVE, &m, sizeof(m));
    kit_turn(k, 0);
    struct ctl_frame reply;
    must(kit_frame(k, &reply) && reply.code == CTL_REPLY && reply.ref == m.ref);
    return reply.u.reply.status;
}

static void end_sessions(struct kit *k)
{
    for (uint32_t i = 0; i < k->worker.shard.sessions.session_slab.touched; i++) {
        struct session *s = slab_at(&k->worker.shard.sessions.session_slab, i);
        if (s->by_tuple.link)
            alloc_end(&k->worker.shard, s, GONE_DELETED);
    }
}

static void let_go(struct kit *k)
{
    kit_turn(k, 0);
    kit_turn(k, 0);
    struct ctl_frame f;
    while (kit_frame(k, &f))
        ;
    kit_turn(k, 0);
}

void kit_stop(struct kit *k)
{
    end_sessions(k);
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        k->worker.shard.listeners[i].open = false;
    let_go(k);
    close(k->worker.config.doorbell);
    worker_destroy(&k->worker);
    letters_destroy(&k->neighbour.letters);
    ports_destroy(&k->ports);
    io_destroy(k->io);
}

/* Erlang gives up on every request it has. */
static void return_credits(struct kit *k)
{
    struct shard *sh = &k->worker.shard;
    while (!list_empty(&sh->pending.in_order)) {
        const struct pending *p = container_of(sh->pending.in_order.next, struct pending, in_order);
        uint64_t flow = pending_number(&sh->pending, p);
        struct ctl_frame f = {.code = CTL_ANSWER, .u.answer = {.flow = flow}};
        kit_command(k, &f);
    }
}

bool kit_reset(struct kit *k)
{
    struct shard *sh = &k->worker.shard;
    return_credits(k);
    end_sessions(k);
    let_go(k);
    struct fake_sent sent;
    while (fake_io_take(k->io, &sent))
        ;
    uint32_t len;
    while (mailbox_peek(&k->neighbour.letters.box, &len))
        mailbox_consume(&k->neighbour.letters.box);
    unsigned listeners = 0;
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        sh->listeners[i].other = (struct addr){0};
        listeners += sh->listeners[i].in_use;
        if (sh->listeners[i].end.holds)
            return false;
    }
    const struct sessions *t = &sh->sessions;
    bool clean = !t->session_slab.live && !t->permission_slab.live && !t->channel_slab.live &&
                 !sh->roamers.slab.live && !sh->pending.slab.live && !t->timers.count &&
                 fake_io_sockets(k->io) == listeners && ports_free(&k->ports) == 2 * 9000;
    if (!shard_listener(sh, 1))
        k->listener = kit_listen(k, 1, &k->server, NULL);
    place_clients(k);
    sh->time = start;
    sh->sessions.timers.tick = start.now / TIMER_TICK_NS;
    sh->pending.generation = 0;
    memset(k->users, 0, sizeof(k->users));
    memset(&k->limits.total, 0, sizeof(k->limits.total));
    if (k->limits.unauthenticated.unit)
        ratelimit_init(&k->limits.unauthenticated, 0, 0);
    if (k->limits.failures.unit)
        ratelimit_init(&k->limits.failures, 0, 0);
    for (size_t i = 0; i < COUNTER_COUNT; i++)
        atomic_store(&sh->counters[i], 0);
    kit_policy(k, NULL, 0);
    return clean;
}

void kit_turn(struct kit *k, uint64_t forward_ms)
{
    io_wait(k->io, 0);
    k->worker.shard.time.now += forward_ms * NS_PER_MS;
    k->worker.shard.time.wall_s += (uint32_t)(forward_ms / 1000);
    worker_turn(&k->worker);
}

static void own(struct host_list *l, enum host_kind kind, const char *ip)
{
    struct addr a;
    must(addr_parse(&a, ip, 0));
    struct host_prefix p = {.family = a.family, .bits = 128, .kind = (uint8_t)kind};
    memcpy(p.ip, a.ip, 16);
    must(host_list_add(l, &p));
}

static struct host *kit_host(void)
{
    struct host_list l = {0};
    own(&l, HOST_LOCAL, kit_home);
    own(&l, HOST_LOCAL, "203.0.113.5");
    own(&l, HOST_BROADCAST, "203.0.113.255");
    struct host *host = host_make(&l);
    must(host);
    host_list_free(&l);
    return host;
}

void kit_rules(struct kit *k, const uint8_t *rules, size_t len)
{
    const struct policy_facts facts = {
        .host = kit_host(), .ports = &k->ports, .guarded = &k->server, .guarded_count = 1};
    struct policy *p = policy_make(rules, len, &facts);
    must(p);
    host_drop(facts.host);
    kit_mail(k, MAIL_POLICY, &p, sizeof(p));
    kit_turn(k, 0);
}

static void put_rule(uint8_t *out, enum policy_verdict verdict, const struct addr *ip,
                     unsigned bits)
{
    out[0] = (uint8_t)verdict;
    out[1] = (uint8_t)bits;
    if (bits)
        memcpy(out + 2, ip->ip, 16);
    store16(out + 20, UINT16_MAX); /* of all ports */
}

void kit_policy(struct kit *k, const struct addr *deny, unsigned bits)
{
    uint8_t rules[2 * POLICY_RULE_LEN] = {0};
    size_t n = 0;
    if (deny) {
        put_rule(rules, POLICY_DENY, deny, bits);
        n += POLICY_RULE_LEN;
    }
    put_rule(rules + n, POLICY_ALLOW, NULL, 0); /* ::/0 */
    kit_rules(k, rules, n + POLICY_RULE_LEN);
}

void kit_command(struct kit *k, struct ctl_frame *f)
{
    uint8_t buf[4096];
    f->ref = ++k->ref;
    size_t len = ctl_encode(f, buf, sizeof(buf));
    must(len);
    kit_mail(k, MAIL_FRAME, buf, len);
    kit_turn(k, 0);
}

bool kit_frame(struct kit *k, struct ctl_frame *out)
{
    static uint8_t copy[8192];
    const uint8_t *record;
    uint32_t len;
    while ((record = mailbox_peek(&k->worker.shard.out, &len))) {
        must(len <= sizeof(copy));
        memcpy(copy, record, len);
        mailbox_consume(&k->worker.shard.out);
        if (copy[0] == MAIL_PORT_FREE) {
            struct mail_port m;
            memcpy(&m, copy + 1, sizeof(m));
            port_release(m.pool, m.port);
            continue;
        }
        if (copy[0] != MAIL_FRAME) /* for another worker: the test looks for it before */
            continue;
        must(ctl_decode(out, copy + 1, len - 1) == CTL_ERR_NONE);
        return true;
    }
    return false;
}

bool kit_listener_idle(struct kit *k, uint32_t id)
{
    const uint8_t *record;
    uint32_t len;
    bool idle = false;
    while ((record = mailbox_peek(&k->worker.shard.out, &len))) {
        idle = idle || (record[0] == MAIL_IDLE && memcmp(record + 1, &id, sizeof(id)) == 0);
        mailbox_consume(&k->worker.shard.out);
    }
    return idle;
}

void kit_listener_over(struct kit *k, uint32_t id)
{
    kit_mail(k, MAIL_OVER, &id, sizeof(id));
    kit_turn(k, 0);
}

uint16_t kit_ask(struct kit *k, struct ctl_frame *f)
{
    struct ctl_frame reply;
    kit_command(k, f);
    must(kit_frame(k, &reply) && reply.code == CTL_REPLY && reply.ref == f->ref);
    return reply.u.reply.status;
}

struct session *kit_allocate(struct kit *k, uint64_t id, bool v4, bool v6, uint32_t lifetime_ms)
{
    struct mail_alloc m = {.ref = ++k->ref,
                           .session = id,
                           .listener = 1,
                           .transport = CTL_TRANSPORT_UDP,
                           .client = k->client,
                           .server = k->server,
                           .lifetime_ms = lifetime_ms,
                           .home = k->worker.shard.config.index};
    uint64_t token;
    if (v4)
        must(port_take(&k->ports, ports_find(&k->ports, 1), 0, PORT_ANY, k->worker.shard.time.now,
                       &m.relayed[0], &token) == 0);
    if (v6)
        must(port_take(&k->ports, ports_find(&k->ports, 2), 0, PORT_ANY, k->worker.shard.time.now,
                       &m.relayed[1], &token) == 0);
    kit_mail(k, MAIL_ALLOC, &m, sizeof(m));
    kit_turn(k, 0);
    struct ctl_frame reply;
    must(kit_frame(k, &reply) && reply.code == CTL_ALLOC_CREATED);
    return reply.u.alloc_created.status == CTL_OK ? session_by_id(&k->worker.shard.sessions, id)
                                                  : NULL;
}

uint16_t kit_permit(struct kit *k, uint64_t session, const struct addr *peer, uint32_t ms)
{
    uint8_t buf[32];
    struct wbytes w = wbytes_of(buf, sizeof(buf));
    ctl_put_addr(&w, peer);
    struct ctl_frame f = {.code = CTL_PERMIT,
                          .u.permit = {.session = session,
                                       .lifetime_ms = ms,
                                       .peers = ctl_bytes_of(buf, wbytes_len(&w))}};
    return kit_ask(k, &f);
}

uint16_t kit_channel(struct kit *k, uint64_t session, uint16_t number, const struct addr *peer,
                     uint32_t channel_ms, uint32_t permission_ms)
{
    struct ctl_frame f = {.code = CTL_CHANNEL,
                          .u.channel = {.session = session,
                                        .number = number,
                                        .peer = *peer,
                                        .lifetime_ms = channel_ms,
                                        .permission_ms = permission_ms}};
    return kit_ask(k, &f);
}

void kit_from_client(struct kit *k, const void *data, size_t len)
{
    fake_io_deliver(k->io, &k->listener->io, &k->client, NULL, data, len);
    kit_turn(k, 0);
}

void kit_from_peer(struct kit *k, struct relayed *r, const struct addr *from, const void *data,
                   size_t len)
{
    fake_io_deliver(k->io, &r->io, from, NULL, data, len);
    kit_turn(k, 0);
}

uint64_t kit_count(struct kit *k, enum counter c)
{
    return atomic_load(&k->worker.shard.counters[c]);
}
