/*
 * Plans of many clients: what is sent, awaited, retransmitted and received. Sockets are opened in
 * sockets.c.
 */
#include "fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "sockets.h"

enum { EVENTS = 256, ROUNDS = 4, SENDS_MAX = 5 };

#define RTO        (500 * NS_PER_MS) /* RFC 8489 6.2.1 */
#define RTO_MAX    (2 * NS_PER_S)
#define LOOK_EVERY (20 * NS_PER_MS)

volatile sig_atomic_t fleet_interrupted;

const enum turn_step plan_up[] = {STEP_ALLOCATE, STEPS};
const enum turn_step plan_up_channels[] = {STEP_ALLOCATE, STEP_CHANNEL, STEPS};
const enum turn_step plan_up_permission[] = {STEP_ALLOCATE, STEP_PERMISSION, STEPS};
const enum turn_step plan_keep_channels[] = {STEP_CHANNEL, STEP_REFRESH, STEPS};
const enum turn_step plan_keep_permission[] = {STEP_PERMISSION, STEP_REFRESH, STEPS};
const enum turn_step plan_keep_all[] = {STEP_PERMISSION, STEP_CHANNEL, STEP_REFRESH, STEPS};
const enum turn_step plan_down[] = {STEP_DELETE, STEPS};
const enum turn_step plan_cycle[] = {STEP_ALLOCATE, STEP_CHANNEL, STEP_REFRESH, STEP_DELETE, STEPS};
const enum turn_step plan_binding[] = {STEP_BINDING, STEPS};
const enum turn_step plan_challenge[] = {STEP_CHALLENGE, STEPS};

uint64_t fleet_now(void)
{
    return clock_read().now;
}

static void end_plan(struct fleet *f, struct turn_client *c, int code, uint64_t now)
{
    if (c->waiting) {
        uint32_t last = f->active[--f->active_count];
        f->active[c->active_at] = last;
        f->clients[last].active_at = c->active_at;
        c->waiting = false;
    }
    c->code = code;
    if (code != TURN_WELL)
        f->failed[code]++;
    if (f->on_end)
        f->on_end(f->ctx, c, now);
}

static void transmit(struct fleet *f, struct turn_client *c, uint64_t now)
{
    uint64_t wait = RTO << c->sends++;
    c->deadline = now + MIN(wait, RTO_MAX);
    int err = socket_send(c->fd, &c->source, fleet_server(f, c), c->request, c->request_len);
    if (err == -ECONNREFUSED)
        end_plan(f, c, TURN_REFUSED, now);
}

/* Sends the present step's request for the first time, or signed otherwise. */
static void request(struct fleet *f, struct turn_client *c, uint64_t now)
{
    c->sends = 0;
    int code = turn_request(&f->login, c, fleet_peers(f, c), f->o->family);
    if (code == TURN_WELL)
        transmit(f, c, now);
    else
        end_plan(f, c, code, now);
}

void fleet_begin(struct fleet *f, struct turn_client *c, const enum turn_step *plan, uint64_t now)
{
    if (c->waiting) {
        fprintf(stderr, "meerkat_bench: a client began twice\n");
        abort();
    }
    c->active_at = f->active_count;
    f->active[f->active_count++] = c->index;
    c->waiting = true;
    c->plan = plan;
    c->channel = c->challenges = 0;
    c->began = now;
    if (*plan == STEP_ALLOCATE || *plan == STEP_BINDING || *plan == STEP_CHALLENGE)
        c->nonce_len = 0;
    request(f, c, now);
}

static void step_done(struct fleet *f, struct turn_client *c, uint64_t now)
{
    enum turn_step step = *c->plan;
    histogram_add(&f->latency[step], now - c->began);
    f->well[step]++;
    if (step != STEP_CHANNEL || c->channel == f->peer_count)
        c->plan++;
    c->challenges = 0;
    c->began = now;
    if (*c->plan == STEPS)
        end_plan(f, c, TURN_WELL, now);
    else
        request(f, c, now);
}

static void answered(struct fleet *f, const struct stun_view *v, uint64_t now)
{
    uint32_t index = load32(v->txid);
    if (index >= f->size || !turn_is_answer(&f->clients[index], v))
        return;
    struct turn_client *c = &f->clients[index];
    f->answers++;
    int code = turn_answer(&f->login, c, v);
    if (code == TURN_WELL)
        step_done(f, c, now);
    else if (code == TURN_AGAIN)
        request(f, c, now);
    else
        end_plan(f, c, code, now);
}

static void from_server(struct fleet *f, const uint8_t *data, size_t len, uint64_t now)
{
    struct stun_view v;
    const uint8_t *payload;
    size_t payload_len;
    uint16_t number;
    if (stun_demux(data[0]) == DEMUX_CHANNEL) {
        if (channel_parse(data, len, &number, &payload, &payload_len) && f->on_packet)
            f->on_packet(f->ctx, false, payload, payload_len, now);
    } else if (stun_parse(&v, data, len) == STUN_OK) {
        if (v.cls != STUN_INDICATION)
            answered(f, &v, now);
        else if (stun_get_bytes(&v, A_data, &payload, &payload_len) == STUN_OK && f->on_packet)
            f->on_packet(f->ctx, false, payload, payload_len, now);
    }
}

/* What a socket's data is tagged with in epoll: whose it is. */
static void take(void *ctx, uint32_t tag, const uint8_t *data, size_t len, uint64_t now)
{
    struct fleet *f = ctx;
    bool at_peer = tag & TAG_PEER;
    if (len == 0)
        return;
    if (!at_peer && !f->raw)
        from_server(f, data, len, now);
    else if (f->on_packet)
        f->on_packet(f->ctx, at_peer, data, len, now);
}

static void receive(struct fleet *f, uint32_t tag)
{
    int fd = sockets_fd(f, tag);
    for (unsigned round = 0; fd >= 0 && round < ROUNDS; round++) {
        int n = socket_receive(fd, f->o->gro, tag, take, f);
        if (n == -ECONNREFUSED && !(tag & (TAG_PEER | TAG_SHARED)) && f->clients[tag].waiting) {
            end_plan(f, &f->clients[tag], TURN_REFUSED, fleet_now());
            return;
        }
        if (n < SOCKET_BATCH)
            return;
        fd = sockets_fd(f, tag);
    }
}

/* Requests whose time is over go out again, or were the last. */
static void look(struct fleet *f, uint64_t now)
{
    if (now < f->next_look)
        return;
    f->next_look = now + LOOK_EVERY;
    for (unsigned i = f->active_count; i-- > 0;) {
        if (i >= f->active_count)
            continue;
        struct turn_client *c = &f->clients[f->active[i]];
        if (now < c->deadline)
            continue;
        if (c->sends == SENDS_MAX) {
            end_plan(f, c, TURN_NO_ANSWER, now);
        } else {
            f->retransmitted++;
            transmit(f, c, now);
        }
    }
}

void fleet_poll(struct fleet *f, uint64_t wait)
{
    struct epoll_event events[EVENTS];
    struct timespec t = {(time_t)(wait / NS_PER_S), (long)(wait % NS_PER_S)};
    int n = epoll_pwait2(f->epoll, events, EVENTS, &t, NULL);
    for (int i = 0; i < n; i++)
        receive(f, events[i].data.u32);
    look(f, fleet_now());
}

bool fleet_is_hopeless(const struct fleet *f)
{
    uint64_t failed = 0, well = 0;
    for (unsigned step = 0; step < STEPS; step++)
        well += f->well[step];
    for (int code = 1; well == 0 && code < TURN_CODES; code++)
        failed += f->failed[code];
    return failed >= f->o->in_flight;
}

static int open_socket(struct fleet *f, unsigned i)
{
    int err = fleet_client_open(f, &f->clients[i]);
    if (err)
        fprintf(stderr, "meerkat_bench: socket of client %u: %s\n", i, strerror(-err));
    return err ? -1 : 0;
}

int fleet_open_sockets(struct fleet *f)
{
    for (unsigned i = 0; i < f->size; i++)
        if (open_socket(f, i) != 0)
            return -1;
    return 0;
}

int fleet_all(struct fleet *f, unsigned first, unsigned count, const enum turn_step *plan,
              bool allocated)
{
    unsigned next = first, end = first + count;
    while (next < end || f->active_count) {
        /* Whoever has begun comes to an end, for what the server has made must be known. */
        if (!allocated && (fleet_interrupted || fleet_is_hopeless(f)))
            next = end;
        while (next < end && f->active_count < f->o->in_flight) {
            struct turn_client *c = &f->clients[next++];
            if (allocated && (!c->allocated || c->waiting))
                continue;
            if (c->fd < 0 && open_socket(f, (unsigned)(c - f->clients)) != 0)
                return -1;
            fleet_begin(f, c, plan, fleet_now());
        }
        fleet_poll(f, LOOK_EVERY);
    }
    int bad = 0;
    for (unsigned i = first; i < end; i++)
        bad += f->clients[i].code != TURN_WELL;
    return bad;
}

uint64_t fleet_failures(const struct fleet *f)
{
    char buf[64];
    uint64_t sum = 0;
    for (int code = 1; code < TURN_CODES; code++) {
        if (f->failed[code])
            fprintf(stderr, "meerkat_bench: %llu failed: %s\n", (unsigned long long)f->failed[code],
                    turn_code_text(code, buf, sizeof(buf)));
        sum += f->failed[code];
    }
    return sum;
}
