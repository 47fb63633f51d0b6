/*
 * The schedule and the sink.
 *
 * A payload begins with 24 bytes: magic 4, run 2, flags 1, unused 1, flow 4, sequence 4, the time
 * it was due 8 (monotonic, in nanoseconds). The rest is zero.
 */
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"

enum { UP = 0, DOWN = 1 };
enum { FLAG_MEASURED = 1 };
enum { TURN_SLOTS = 64, HEADER = 24 };

#define MAGIC 0x6d6b6274u /* "mkbt" */
#define LATE  NS_PER_MS
/* What is late leaves at so many times the rate, and after a stall of the generator no more at once
 * than is due in this time: its stalls are not to fill the server's buffers. */
#define CATCH_UP 2.0
#define AT_ONCE  (8 * NS_PER_MS)
/* Looking at the CPU takes time: not among what is measured. */
#define WATCH_LEAD (10 * NS_PER_MS)
/* So long nothing came: what is missing is lost. Less where more was sent than is taken, for a
 * server that has some of it left sends all the time. */
#define QUIET      NS_PER_S
#define QUIET_FULL (NS_PER_S / 4)
#define DRAIN_MAX  (10 * NS_PER_S)
#define SLEEP_MAX  (50 * NS_PER_MS)

double traffic_loss(const struct traffic_result *r)
{
    return r->offered ? 100.0 * (double)(r->offered - r->delivered) / (double)r->offered : 0;
}

/* -------------------------------------------------------------------------------- the sink */

/* False for what came before. Reordered is what a later one overtook. */
static bool is_new(struct traffic_result *r, struct flow_seen *s, uint32_t seq)
{
    if (seq >= s->next) {
        uint32_t ahead = seq - s->next + 1;
        s->window = (ahead >= 64 ? 0 : s->window << ahead) | 1;
        s->next = seq + 1;
        return true;
    }
    uint32_t back = s->next - 1 - seq;
    if (back < 64) {
        if (s->window >> back & 1)
            return false;
        s->window |= 1ull << back;
    }
    r->reordered++;
    return true;
}

static void deliver(struct traffic *t, struct flow *f, unsigned way, const uint8_t *data,
                    size_t len, uint64_t now)
{
    struct traffic_result *r = t->result;
    if (!is_new(r, &f->way[way], load32(data + 12))) {
        r->duplicated++;
        return;
    }
    if (!(data[6] & FLAG_MEASURED))
        return;
    uint64_t due = load64(data + 16);
    r->delivered++;
    r->damaged += len != t->o->payload;
    histogram_add(&r->latency, now > due ? now - due : 0);
}

static void echo(struct traffic *t, const struct flow *f, const uint8_t *data, size_t len)
{
    uint8_t *to = batch_add(&t->out[DOWN], t->fleet->peer_fds[f->channel], 1, NULL,
                            &t->fleet->clients[f->client].relayed);
    memcpy(to, data, MIN(len, t->o->payload));
}

static void arrived(void *ctx, bool at_peer, const uint8_t *data, size_t len, uint64_t now)
{
    struct traffic *t = ctx;
    if (len < HEADER || !t->result || load32(data) != MAGIC || load16(data + 4) != t->run)
        return;
    uint32_t n = load32(data + 8);
    if (n >= t->count)
        return;
    t->arrived++;
    t->last_arrival = now;
    if (t->o->direction == DIRECTION_ECHO && at_peer)
        echo(t, &t->flows[n], data, len);
    else
        deliver(t, &t->flows[n],
                at_peer || t->o->direction == DIRECTION_ECHO || t->o->pairs ? UP : DOWN, data, len,
                now);
}

/* ---------------------------------------------------------------------------- the schedule */

static void put_payload(struct traffic *t, struct flow *f, unsigned way, uint8_t *to, uint64_t due)
{
    bool measured = due >= t->measure_from && due < t->measure_to;
    uint32_t flow = (uint32_t)(f - t->flows);
    store32(to, MAGIC);
    store16(to + 4, t->run);
    to[6] = measured ? FLAG_MEASURED : 0;
    to[7] = 0;
    store32(to + 8, flow);
    store32(to + 12, f->way[way].sent++);
    store64(to + 16, due);
    t->result->offered += measured;
}

/* What stands before the payload on the client's side; returns where the payload goes. */
static uint8_t *put_wrapping(struct traffic *t, const struct flow *f, uint8_t *to)
{
    struct stun_builder b;
    static uint8_t txid[STUN_TXID_LEN];
    if (t->fleet->raw)
        return to;
    if (t->o->method == METHOD_CHANNEL) {
        channel_put_header(to + CHANNEL_HEADER_LEN, (uint16_t)(CHANNEL_MIN + f->channel),
                           t->o->payload);
        return to + CHANNEL_HEADER_LEN;
    }
    store64(txid, load64(txid) + 1);
    stun_build_start(&b, to, t->out[UP].stride, STUN_INDICATION, STUN_SEND, txid);
    const struct turn_client *c = &t->fleet->clients[f->client];
    stun_put_addr(&b, A_xor_peer_address, &fleet_peers(t->fleet, c)[f->channel]);
    uint8_t *payload = stun_put_room(&b, stun_attr_table[A_data].code, t->o->payload);
    stun_build_end(&b);
    return payload;
}

static void emit(struct traffic *t, struct flow *f, unsigned way, unsigned count, uint64_t due)
{
    struct turn_client *c = &t->fleet->clients[f->client];
    struct batch *b = &t->out[way];
    uint8_t *to;
    if (way == UP)
        to = batch_add(b, c->fd, count, &c->source,
                       c->source.family ? fleet_server(t->fleet, c) : NULL);
    else
        to = batch_add(b, t->fleet->peer_fds[f->channel], count, NULL, &c->relayed);
    for (unsigned i = 0; i < count; i++, to += b->stride)
        put_payload(t, f, way, way == UP ? put_wrapping(t, f, to) : to, due);
}

static void burst(struct traffic *t, uint64_t tick, uint64_t due)
{
    bool both = t->o->direction == DIRECTION_BOTH;
    unsigned way = both ? tick & 1 : t->o->direction == DIRECTION_DOWN;
    struct flow *f = &t->flows[(both ? tick / 2 : tick) % t->count];
    unsigned run = t->o->gso ? batch_run_max(&t->out[way]) : 1;
    for (unsigned left = t->o->burst; left;) {
        unsigned n = MIN(left, run);
        emit(t, f, way, n, due);
        left -= n;
    }
}

static uint64_t due_at(const struct traffic *t, uint64_t tick)
{
    return t->start + (uint64_t)((double)tick * t->interval);
}

static void flush(struct traffic *t)
{
    batch_flush(&t->out[UP]);
    batch_flush(&t->out[DOWN]);
}

/* Ticks that nobody can make up for any more. */
static void skip(struct traffic *t, uint64_t now)
{
    uint64_t to = (uint64_t)((double)(now - t->max_late - t->start) / t->interval);
    if (due_at(t, to) >= t->measure_from && to > t->tick)
        t->result->skipped += (to - t->tick) * t->o->burst;
    t->tick = MAX(t->tick, to);
}

/* Lets so many ticks more leave as time has passed, with some to spare. */
static void allow(struct traffic *t, uint64_t now)
{
    double most = MAX(1.0, (double)AT_ONCE / t->interval);
    t->allowed += CATCH_UP * (double)(now - t->allowed_at) / t->interval;
    t->allowed = MIN(most, t->allowed);
    t->allowed_at = now;
}

/* Sends what is due, at most TURN_SLOTS packets; returns how long there is nothing to do. */
static uint64_t send_due(struct traffic *t, uint64_t now)
{
    uint64_t due = t->interval > 0 ? due_at(t, t->tick) : now, end = t->measure_to;
    if (t->interval > 0 && due + t->max_late < now) {
        skip(t, now);
        due = due_at(t, t->tick);
    }
    if (t->interval > 0)
        allow(t, now);
    for (unsigned slots = 0; slots < TURN_SLOTS && due <= now && due < end; slots += t->o->burst) {
        if (t->interval > 0 && t->allowed < 1) {
            flush(t);
            return (uint64_t)(t->interval / CATCH_UP);
        }
        t->allowed -= 1;
        if (now - due > LATE && due >= t->measure_from)
            t->result->late += t->o->burst;
        burst(t, t->tick++, due);
        due = t->interval > 0 ? due_at(t, t->tick) : now;
    }
    flush(t);
    return due > now ? due - now : 0;
}

/* Prolongs permissions, channels and allocations, one client after the other. */
static void keep(struct traffic *t, uint64_t now)
{
    struct fleet *f = t->fleet;
    uint64_t round = (uint64_t)(t->o->keep * 1e9);
    while (!f->raw && now >= t->keep_from + round * (t->kept + 1) / f->size) {
        struct turn_client *c = &f->clients[t->kept++];
        if (c->allocated && !c->waiting)
            fleet_begin(f, c,
                        t->o->method == METHOD_CHANNEL ? plan_keep_channels : plan_keep_permission,
                        now);
        if (t->kept == f->size) {
            t->kept = 0;
            t->keep_from += round;
        }
    }
}

/* ---------------------------------------------------------------------------------- a run */

static void take_in(struct traffic *t, uint64_t wait)
{
    fleet_poll(t->fleet, MIN(wait, SLEEP_MAX));
    flush(t);
}

static void progress(const struct traffic *t, uint64_t now, uint64_t *next)
{
    const struct traffic_result *r = t->result;
    if (!t->o->progress || now < *next)
        return;
    if (*next)
        fprintf(stderr, "%s%4.0f s of %.0f: %llu offered, %llu delivered, p99 %.0f us%s",
                isatty(STDERR_FILENO) ? "\r\033[K" : "", (double)(now - t->start) / 1e9,
                (double)(t->measure_to - t->start) / 1e9, (unsigned long long)r->offered,
                (unsigned long long)r->delivered,
                (double)histogram_percentile(&r->latency, 0.99) / 1e3,
                isatty(STDERR_FILENO) ? "" : "\n");
    *next = now + NS_PER_S;
}

/* Until everything arrived, or nothing did for a while. */
static void drain(struct traffic *t)
{
    struct traffic_result *r = t->result;
    uint64_t now = fleet_now(), end = now + DRAIN_MAX;
    uint64_t quiet = t->interval > 0 ? QUIET : QUIET_FULL;
    t->last_arrival = MAX(t->last_arrival, now);
    while (r->delivered < r->offered && now < end && now < t->last_arrival + quiet) {
        take_in(t, SLEEP_MAX);
        now = fleet_now();
    }
}

static void start(struct traffic *t, double rate, double warmup, double duration,
                  struct traffic_result *result)
{
    *result = (struct traffic_result){.rate = rate};
    t->result = result;
    t->run++;
    t->arrived = t->tick = 0;
    t->interval = rate > 0 ? 1e9 * t->o->burst / rate : 0;
    t->out[UP].unsent = t->out[DOWN].unsent = 0;
    for (unsigned i = 0; i < t->count; i++)
        memset(t->flows[i].way, 0, sizeof(t->flows[i].way));
    t->start = t->allowed_at = fleet_now();
    t->allowed = 1;
    t->max_late = (uint64_t)(t->o->max_late * 1e9);
    t->measure_from = t->start + (uint64_t)(warmup * 1e9) + WATCH_LEAD;
    t->measure_to = t->measure_from + (uint64_t)(duration * 1e9);
}

void traffic_run(struct traffic *t, double rate, double warmup, double duration,
                 struct traffic_result *result)
{
    const struct options *o = t->o;
    struct procfs_cpu before = {0};
    uint64_t now, next_progress = 0, arrived_before = 0;
    bool watched = false;
    start(t, rate, warmup, duration, result);
    while ((now = fleet_now()) < t->measure_to && !fleet_interrupted) {
        if (!watched && now + WATCH_LEAD >= t->measure_from) {
            procfs_cpu(&before, o->pids, o->pid_count);
            arrived_before = t->arrived;
            watched = true;
        }
        uint64_t wait = send_due(t, now);
        keep(t, now);
        progress(t, now, &next_progress);
        take_in(t, watched ? wait : MIN(wait, WATCH_LEAD));
    }
    /* What was due until then and is not sent yet. */
    while (t->interval > 0 && due_at(t, t->tick) < t->measure_to && !fleet_interrupted)
        take_in(t, send_due(t, fleet_now()));
    if (watched) {
        procfs_cpu(&result->cpu, o->pids, o->pid_count);
        result->processes_ended = !procfs_cpu_since(&result->cpu, &before);
        result->relayed = t->arrived - arrived_before;
    }
    result->seconds = now > t->measure_from ? (double)(now - t->measure_from) / 1e9 : 0;
    uint64_t unsent = t->out[UP].unsent + t->out[DOWN].unsent;
    result->skipped += unsent;
    result->offered -= MIN(unsent, result->offered);
    drain(t);
    if (next_progress && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    t->result = NULL;
}

static unsigned wrapping(const struct traffic *t)
{
    if (t->fleet->raw)
        return 0;
    if (t->o->method == METHOD_CHANNEL)
        return CHANNEL_HEADER_LEN;
    return STUN_HEADER_LEN + 2 * STUN_ATTR_HEADER_LEN +
           (t->fleet->peers[0].family == ADDR_V6 ? 20 : 8) + (4 - t->o->payload % 4) % 4;
}

static bool is_ready(const struct turn_client *c)
{
    return c->allocated && c->code == TURN_WELL;
}

int traffic_open(struct traffic *t, struct fleet *f)
{
    const struct options *o = f->o;
    *t = (struct traffic){.fleet = f, .o = o, .keep_from = fleet_now()};
    t->flows = calloc((size_t)f->size * f->peer_count, sizeof(*t->flows));
    if (!t->flows ||
        batch_open(&t->out[UP], o->payload + wrapping(t), TURN_SLOTS + o->burst) != 0 ||
        batch_open(&t->out[DOWN], o->payload, TURN_SLOTS + o->burst) != 0) {
        fprintf(stderr, "meerkat_bench: no memory for %u flows\n", f->size);
        return -1;
    }
    for (unsigned i = 0; i < f->size; i++)
        for (unsigned n = 0; is_ready(&f->clients[i]) && n < f->peer_count; n++)
            t->flows[t->count++] = (struct flow){.client = i, .channel = n};
    f->ctx = t;
    f->on_packet = arrived;
    return 0;
}

void traffic_close(struct traffic *t)
{
    t->fleet->on_packet = NULL;
    batch_close(&t->out[UP]);
    batch_close(&t->out[DOWN]);
    free(t->flows);
}
