/*
 * The modes that ask and wait: allocations, keepalives, binding, challenge and idle.
 */
#include "modes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "fleet.h"
#include "procfs.h"

#define SLEEP  (20 * NS_PER_MS)
#define SETTLE NS_PER_S /* the kernel frees some of what was deleted later than at once */

/* ----------------------------------------------------------------- allocations, keepalives */

struct cycles {
    const struct options *o;
    struct fleet fleet;
    const enum turn_step *plan;     /* of each */
    bool anew;                      /* each begins without an allocation */
    uint64_t begun, finished, well; /* cycles */
    uint64_t end;
    uint32_t *free; /* clients between two cycles, a ring: who waited longest comes next */
    unsigned size, first_free, free_count;
};

static void set_free(struct cycles *s, uint32_t client)
{
    s->free[(s->first_free + s->free_count++) % s->size] = client;
}

static uint32_t take_free(struct cycles *s)
{
    uint32_t client = s->free[s->first_free];
    s->first_free = (s->first_free + 1) % s->size;
    s->free_count--;
    return client;
}

/* Begun anew from the loop only: a plan that fails at once would call itself. */
static void cycle_ended(void *ctx, struct turn_client *c, uint64_t now)
{
    struct cycles *s = ctx;
    (void)now;
    s->finished++;
    s->well += c->code == TURN_WELL;
    set_free(s, c->index);
}

static bool more(const struct cycles *s, uint64_t now)
{
    if (fleet_interrupted || fleet_is_hopeless(&s->fleet))
        return false;
    return s->o->count ? s->begun < s->o->count : now < s->end;
}

/* A client that allocates is new to the server. */
static int renew(struct cycles *s, struct turn_client *c)
{
    fleet_client_close(&s->fleet, c);
    c->allocated = false;
    int err = fleet_client_open(&s->fleet, c);
    if (err)
        fprintf(stderr, "meerkat_bench: socket of a client: %s\n", strerror(-err));
    return err;
}

static int begin_cycle(struct cycles *s, uint64_t now)
{
    struct turn_client *c = &s->fleet.clients[take_free(s)];
    if (s->anew && renew(s, c) != 0)
        return -1;
    s->begun++;
    fleet_begin(&s->fleet, c, s->plan, now);
    return 0;
}

static void cycles_progress(const struct cycles *s, uint64_t now, uint64_t *next)
{
    if (!s->o->progress || now < *next)
        return;
    fprintf(stderr, "%s%llu cycles, %llu well%s", isatty(STDERR_FILENO) ? "\r\033[K" : "",
            (unsigned long long)s->finished, (unsigned long long)s->well,
            isatty(STDERR_FILENO) ? "" : "\n");
    *next = now + NS_PER_S;
}

static int run_cycles(struct cycles *s)
{
    uint64_t now, next = 0;
    while (more(s, now = fleet_now()) || s->fleet.active_count) {
        while (s->free_count && s->fleet.active_count < s->o->in_flight && more(s, now))
            if (begin_cycle(s, now) != 0)
                return -1;
        cycles_progress(s, now, &next);
        fleet_poll(&s->fleet, SLEEP);
    }
    if (next && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    return 0;
}

static bool has_step(const enum turn_step *plan, enum turn_step step)
{
    while (*plan != STEPS && *plan != step)
        plan++;
    return *plan == step;
}

static void report_steps(struct report *r, const struct cycles *s)
{
    static const char *const names[][3] = {
        [STEP_ALLOCATE] = {"allocate_p50_us", "allocate_p99_us", "allocate_p999_us"},
        [STEP_CHANNEL] = {"channel_bind_p50_us", "channel_bind_p99_us", "channel_bind_p999_us"},
        [STEP_REFRESH] = {"refresh_p50_us", "refresh_p99_us", "refresh_p999_us"},
        [STEP_PERMISSION] = {"create_permission_p50_us", "create_permission_p99_us",
                             "create_permission_p999_us"},
        [STEP_DELETE] = {"delete_p50_us", "delete_p99_us", "delete_p999_us"},
        [STEP_BINDING] = {"binding_p50_us", "binding_p99_us", "binding_p999_us"},
        [STEP_CHALLENGE] = {"challenge_p50_us", "challenge_p99_us", "challenge_p999_us"},
    };
    static const double parts[] = {0.5, 0.99, 0.999};
    for (unsigned step = 0; step < ARRAY_SIZE(names); step++)
        for (unsigned i = 0; i < ARRAY_SIZE(parts) && has_step(s->plan, step); i++)
            report_put(r, names[step][i], "%.1f",
                       (double)histogram_percentile(&s->fleet.latency[step], parts[i]) / 1e3);
}

static void report_cycles(struct report *r, const struct cycles *s, double seconds,
                          const struct procfs_cpu *used, bool known)
{
    const struct options *o = s->o;
    const struct fleet *f = &s->fleet;
    double cpu = (double)used->server_ns / 1e9;
    double made = (double)f->well[STEP_ALLOCATE];
    report_asked(r, o);
    report_put(r, "in_flight", "%u", o->in_flight);
    report_put(r, "seconds", "%.3f", seconds);
    report_put(r, "cycles", "%llu", (unsigned long long)s->finished);
    report_put(r, "failed", "%llu", (unsigned long long)(s->finished - s->well));
    if (s->anew)
        report_put(r, "allocations", "%.0f", made);
    report_put(r, "answers", "%llu", (unsigned long long)f->answers);
    report_put(r, "retransmitted", "%llu", (unsigned long long)f->retransmitted);
    report_put(r, "operations_per_s", "%.0f", (double)f->answers / seconds);
    report_figure(r, "server_cpu_s", known, 4, cpu);
    if (s->anew) {
        report_put(r, "allocations_per_s", "%.0f", made / seconds);
        report_figure(r, "allocations_per_cpu_s", known && cpu > 0, 0, made / cpu);
    }
    report_figure(r, "operations_per_cpu_s", known && cpu > 0, 0, (double)f->answers / cpu);
    report_put(r, "generator_cpu_s", "%.4f", (double)used->self_ns / 1e9);
    report_put(r, "steal_s", "%.2f", (double)used->stolen_ns / 1e9);
    report_steps(r, s);
}

/* Cycles for as long, or as many, as was asked for; the report of them. */
static int measure_cycles(struct cycles *s, struct report *r)
{
    const struct options *o = s->o;
    struct procfs_cpu before, after;
    uint64_t answers = s->fleet.answers, allocations = s->fleet.well[STEP_ALLOCATE];
    s->fleet.ctx = s;
    s->fleet.on_end = cycle_ended;
    for (uint32_t i = 0; i < s->size; i++)
        set_free(s, i);
    procfs_cpu(&before, o->pids, o->pid_count);
    uint64_t start = fleet_now();
    s->end = start + (uint64_t)(o->duration * 1e9);
    int status = run_cycles(s) == 0 ? EXIT_WELL : EXIT_USAGE;
    double seconds = (double)(fleet_now() - start) / 1e9;
    procfs_cpu(&after, o->pids, o->pid_count);
    bool known = procfs_cpu_since(&after, &before) && o->pid_count;
    s->fleet.on_end = NULL;
    fleet_failures(&s->fleet);
    if (status == EXIT_WELL && s->well == 0) {
        fprintf(stderr, "meerkat_bench: %s\n",
                s->anew ? "no allocation could be made" : "nothing was answered as it should be");
        return EXIT_NOTHING;
    }
    if (status != EXIT_WELL)
        return status;
    s->fleet.answers -= answers; /* what came before was not measured */
    s->fleet.well[STEP_ALLOCATE] -= allocations;
    report_cycles(r, s, seconds, &after, known);
    return report_finish(r, o, s->well < s->finished || fleet_interrupted ? EXIT_LOST : EXIT_WELL);
}

static int open_cycles(struct cycles *s, const struct options *o, unsigned size)
{
    s->o = o;
    s->size = size;
    s->free = calloc(size, sizeof(*s->free));
    return s->free ? fleet_open(&s->fleet, o, size) : -1;
}

static void close_cycles(struct cycles *s)
{
    fleet_all(&s->fleet, 0, s->size, plan_down, true); /* also what a failed step has left */
    fleet_close(&s->fleet);
    free(s->free);
}

int mode_allocations(const struct options *o)
{
    static struct cycles s = {.plan = plan_cycle, .anew = true};
    struct report r = {0};
    if (open_cycles(&s, o, (unsigned)(o->count ? MIN(o->count, o->in_flight) : o->in_flight)) != 0)
        return EXIT_USAGE;
    int status = measure_cycles(&s, &r);
    close_cycles(&s);
    return status;
}

/* What is asked without credentials: by one client after the other, each from a socket of its own.
 */
int mode_strangers(const struct options *o)
{
    static struct cycles s;
    struct report r = {0};
    s.plan = o->mode == MODE_BINDING ? plan_binding : plan_challenge;
    if (open_cycles(&s, o, o->in_flight) != 0 || fleet_open_sockets(&s.fleet) != 0)
        return EXIT_USAGE;
    int status = measure_cycles(&s, &r);
    close_cycles(&s);
    return status;
}

/* What clients of calls that go on ask for: everything as before. */
int mode_keepalives(const struct options *o)
{
    static struct cycles s = {.plan = plan_keep_all};
    struct report r = {0};
    int status = EXIT_NOTHING;
    if (open_cycles(&s, o, o->flows) != 0 || fleet_open_sockets(&s.fleet) != 0)
        return EXIT_USAGE;
    if (fleet_all(&s.fleet, 0, o->flows, plan_up_channels, false) == 0)
        status = measure_cycles(&s, &r);
    else
        fleet_failures(&s.fleet);
    close_cycles(&s);
    return status;
}

/* ------------------------------------------------------------------------------------ idle */

enum { EMPTY, FEW, MANY, DELETED, MOMENTS };

struct idle {
    const struct options *o;
    struct fleet fleet;
    struct procfs_memory memory[MOMENTS], parts[MOMENTS];
    unsigned allocated[MOMENTS];
    double cpu_percent;
};

/* Goes on taking in for that long, so that nothing stays in a queue. */
static void hold(struct idle *s, uint64_t ns)
{
    for (uint64_t end = fleet_now() + ns; fleet_now() < end && !fleet_interrupted;)
        fleet_poll(&s->fleet, SLEEP);
}

static void look_at(struct idle *s, unsigned moment)
{
    hold(s, SETTLE);
    for (unsigned i = 0; i < s->fleet.size; i++)
        s->allocated[moment] += s->fleet.clients[i].allocated;
    procfs_memory(&s->memory[moment], s->o->pids, s->o->pid_count);
    procfs_memory(&s->parts[moment], s->o->parts, s->o->part_count);
}

static void watch_cpu(struct idle *s)
{
    struct procfs_cpu before, after;
    uint64_t start = fleet_now();
    procfs_cpu(&before, s->o->pids, s->o->pid_count);
    hold(s, (uint64_t)(s->o->duration * 1e9));
    procfs_cpu(&after, s->o->pids, s->o->pid_count);
    s->cpu_percent =
        100.0 * (double)(after.server_ns - before.server_ns) / (double)MAX(1u, fleet_now() - start);
}

/* Bytes for each allocation between the two. */
static double slope(const struct idle *s, uint64_t few, uint64_t many)
{
    double more = (double)s->allocated[MANY] - (double)s->allocated[FEW];
    return more > 0 ? 1024.0 * ((double)many - (double)few) / more : 0;
}

static void report_memory(struct report *r, const struct idle *s)
{
    static const char *const names[MOMENTS][6] = {
        {"allocated_0", "rss_kb_0", "pss_kb_0", "kernel_kb_0", "socket_slabs_kb_0", "part_kb_0"},
        {"allocated_1", "rss_kb_1", "pss_kb_1", "kernel_kb_1", "socket_slabs_kb_1", "part_kb_1"},
        {"allocated_2", "rss_kb_2", "pss_kb_2", "kernel_kb_2", "socket_slabs_kb_2", "part_kb_2"},
        {"allocated_after", "rss_kb_after", "pss_kb_after", "kernel_kb_after",
         "socket_slabs_kb_after", "part_kb_after"},
    };
    for (unsigned i = 0; i < MOMENTS; i++) {
        const struct procfs_memory *m = &s->memory[i];
        report_put(r, names[i][0], "%u", s->allocated[i]);
        report_put(r, names[i][1], "%llu", (unsigned long long)m->rss_kb);
        report_put(r, names[i][2], "%llu", (unsigned long long)m->pss_kb);
        report_put(r, names[i][3], "%llu", (unsigned long long)m->kernel_kb);
        report_put(r, names[i][4], "%llu", (unsigned long long)m->socket_kb);
        report_figure(r, names[i][5], s->o->part_count, 0, (double)s->parts[i].rss_kb);
    }
}

static void report_idle(struct report *r, const struct idle *s)
{
    const struct procfs_memory *few = &s->memory[FEW], *many = &s->memory[MANY];
    report_asked(r, s->o);
    report_memory(r, s);
    report_put(r, "rss_bytes_per_allocation", "%.0f", slope(s, few->rss_kb, many->rss_kb));
    report_put(r, "pss_bytes_per_allocation", "%.0f", slope(s, few->pss_kb, many->pss_kb));
    report_put(r, "kernel_bytes_per_allocation", "%.0f", slope(s, few->kernel_kb, many->kernel_kb));
    report_put(r, "socket_bytes_per_allocation", "%.0f", slope(s, few->socket_kb, many->socket_kb));
    report_figure(r, "part_bytes_per_allocation", s->o->part_count, 0,
                  slope(s, s->parts[FEW].rss_kb, s->parts[MANY].rss_kb));
    report_put(r, "server_cpu_percent", "%.3f", s->cpu_percent);
}

/* Prolongs nothing: it is over before anything expires. */
static int hold_both(struct idle *s)
{
    const struct options *o = s->o;
    look_at(s, EMPTY);
    int bad = fleet_all(&s->fleet, 0, o->flows, plan_up_channels, false);
    if (s->fleet.well[STEP_ALLOCATE] == 0)
        return bad;
    look_at(s, FEW);
    bad += fleet_all(&s->fleet, o->flows, o->flows_more - o->flows, plan_up_channels, false);
    look_at(s, MANY);
    watch_cpu(s);
    return bad;
}

int mode_idle(const struct options *o)
{
    static struct idle s;
    struct report r = {0};
    s.o = o;
    if (fleet_open(&s.fleet, o, o->flows_more) != 0)
        return EXIT_USAGE;
    int status = EXIT_USAGE;
    /* All sockets first: what the kernel keeps for them is ours and not the server's. */
    if (fleet_open_sockets(&s.fleet) != 0)
        goto close;
    int bad = hold_both(&s);
    fleet_all(&s.fleet, 0, o->flows_more, plan_down, true);
    look_at(&s, DELETED);
    bool failed = fleet_failures(&s.fleet) > 0 || bad;
    if (s.fleet.well[STEP_ALLOCATE] == 0) {
        fprintf(stderr, "meerkat_bench: no allocation could be made\n");
        status = EXIT_NOTHING;
        goto close;
    }
    report_idle(&r, &s);
    status = report_finish(&r, o, failed || fleet_interrupted ? EXIT_LOST : EXIT_WELL);
close:
    fleet_close(&s.fleet);
    return status;
}
