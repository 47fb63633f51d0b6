/*
 * The modes that move packets: traffic, sink and search.
 */
#include "modes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "traffic.h"

#define LATENCY_PART 0.7  /* of the highest rate: where the latency is looked at */
#define RESOLUTION   0.02 /* the search ends when both bounds are so near */
#define BACK_OFF     0.97 /* after a confirmation that failed */
#define RATE_MAX     2e7

/* A fleet with allocations, and traffic over it. */
struct stage {
    struct fleet fleet;
    struct traffic traffic;
    int failed; /* clients without an allocation, channel or permission */
};

/* How many clients have not got what they send by. In pairs both must have their relayed addresses
 * before they can permit each other; those that have none have no way, which shows here. */
static int set_up(struct fleet *f, const struct options *o)
{
    bool channels = o->method == METHOD_CHANNEL;
    if (!o->pairs)
        return fleet_all(f, 0, o->flows, channels ? plan_up_channels : plan_up_permission, false);
    int failed = fleet_all(f, 0, o->flows, plan_up, false);
    return failed ? failed
                  : fleet_all(f, 0, o->flows, channels ? plan_keep_channels : plan_keep_permission,
                              true);
}

/* Says why there is nothing to send through. */
static int nothing(const struct fleet *f)
{
    fleet_failures(f);
    fprintf(stderr, "meerkat_bench: no %s could be made\n",
            f->well[STEP_ALLOCATE] ? "channel or permission" : "allocation");
    return EXIT_NOTHING;
}

/* -1, or the status to exit with. */
static int stage_open(struct stage *s, const struct options *o)
{
    if (fleet_open(&s->fleet, o, o->flows) != 0)
        return EXIT_USAGE;
    s->failed = o->mode == MODE_SINK ? fleet_open_sockets(&s->fleet) : set_up(&s->fleet, o);
    if (s->failed < 0 || traffic_open(&s->traffic, &s->fleet) != 0)
        return EXIT_USAGE;
    if (s->traffic.count == 0 && !fleet_interrupted)
        return nothing(&s->fleet);
    return s->traffic.count ? -1 : EXIT_LOST;
}

static void stage_close(struct stage *s)
{
    if (s->traffic.flows)
        traffic_close(&s->traffic);
    if (!s->fleet.raw)
        fleet_all(&s->fleet, 0, s->fleet.size, plan_down, true);
    fleet_close(&s->fleet);
}

static double us(const struct histogram *h, double part)
{
    return (double)histogram_percentile(h, part) / 1e3;
}

static void report_cpu(struct report *r, const struct options *o, const struct traffic_result *t)
{
    double cpu = (double)t->cpu.server_ns / 1e9;
    if (t->processes_ended)
        fprintf(stderr,
                "meerkat_bench: a process of the server ended meanwhile: its CPU is unknown\n");
    bool known = !t->processes_ended && o->pid_count && t->cpu.server_ns && t->relayed;
    report_put(r, "relayed", "%llu", (unsigned long long)t->relayed);
    report_figure(r, "server_cpu_s", o->pid_count && !t->processes_ended, 4, cpu);
    report_figure(r, "packets_per_cpu_s", known, 0, (double)t->relayed / cpu);
    report_figure(r, "server_ns_per_packet", known, 1,
                  (double)t->cpu.server_ns / (double)t->relayed);
    report_put(r, "softirq_s", "%.2f", (double)t->cpu.softirq_ns / 1e9);
    report_put(r, "steal_s", "%.2f", (double)t->cpu.stolen_ns / 1e9);
    report_put(r, "generator_cpu_s", "%.4f", (double)t->cpu.self_ns / 1e9);
    report_figure(r, "generator_ns_per_packet", t->relayed, 1,
                  (double)t->cpu.self_ns / (double)t->relayed);
}

static void report_run(struct report *r, const struct options *o, const struct traffic_result *t)
{
    report_put(r, "rate_pps", "%.0f", t->rate);
    report_put(r, "seconds", "%.3f", t->seconds);
    report_put(r, "offered", "%llu", (unsigned long long)t->offered);
    report_put(r, "delivered", "%llu", (unsigned long long)t->delivered);
    report_put(r, "lost", "%llu", (unsigned long long)(t->offered - t->delivered));
    report_put(r, "loss_percent", "%.4f", traffic_loss(t));
    report_put(r, "duplicated", "%llu", (unsigned long long)t->duplicated);
    report_put(r, "reordered", "%llu", (unsigned long long)t->reordered);
    report_put(r, "damaged", "%llu", (unsigned long long)t->damaged);
    report_put(r, "late", "%llu", (unsigned long long)t->late);
    report_put(r, "skipped", "%llu", (unsigned long long)t->skipped);
    report_put(r, "offered_pps", "%.0f", t->seconds > 0 ? (double)t->offered / t->seconds : 0);
    report_put(r, "delivered_pps", "%.0f", t->seconds > 0 ? (double)t->delivered / t->seconds : 0);
    report_put(r, "p50_us", "%.1f", us(&t->latency, 0.5));
    report_put(r, "p90_us", "%.1f", us(&t->latency, 0.9));
    report_put(r, "p99_us", "%.1f", us(&t->latency, 0.99));
    report_put(r, "p999_us", "%.1f", us(&t->latency, 0.999));
    report_put(r, "max_us", "%.1f", (double)t->latency.max / 1e3);
    report_cpu(r, o, t);
}

static void report_traffic_asked(struct report *r, const struct stage *s)
{
    const struct options *o = s->fleet.o;
    report_asked(r, o);
    report_put(r, "method", "%s", s->fleet.raw ? "none" : method_name(o->method));
    report_put(r, "direction", "%s", direction_name(o->direction));
    report_put(r, "pairs", "%d", o->pairs);
    report_put(r, "channels", "%u", o->channels);
    report_put(r, "payload", "%u", o->payload);
    report_put(r, "burst", "%u", o->burst);
    report_put(r, "gso", "%d", o->gso);
    report_put(r, "gro", "%d", o->gro);
    report_put(r, "allocated", "%llu", (unsigned long long)s->fleet.well[STEP_ALLOCATE]);
    report_put(r, "refreshed", "%llu", (unsigned long long)s->fleet.well[STEP_REFRESH]);
    report_put(r, "failed", "%d", s->failed);
}

int mode_traffic(const struct options *o)
{
    static struct stage s;
    static struct traffic_result result;
    struct report r = {0};
    int status = stage_open(&s, o);
    if (status >= 0)
        goto close;
    traffic_run(&s.traffic, o->rate, o->warmup, o->duration, &result);
    report_traffic_asked(&r, &s);
    report_run(&r, o, &result);
    bool lost = traffic_loss(&result) > o->max_loss || result.damaged || result.offered == 0;
    bool failed = fleet_failures(&s.fleet) > 0;
    status = report_finish(&r, o, lost || failed || fleet_interrupted ? EXIT_LOST : EXIT_WELL);
close:
    stage_close(&s);
    return status;
}

/* ---------------------------------------------------------------------------------- search */

static struct traffic_result trial;

/* Is the rate carried? Not if the generator could not offer it either. */
static bool carries(struct traffic *t, double rate)
{
    const struct options *o = t->o;
    traffic_run(t, rate, o->warmup, o->trial, &trial);
    bool offered = (double)trial.skipped <= (double)trial.offered * o->loss / 100;
    bool well = offered && trial.offered && traffic_loss(&trial) <= o->loss;
    if (!o->quiet)
        fprintf(stderr, "%.0f packets a second: %.4f %% lost%s\n", rate, traffic_loss(&trial),
                offered ? "" : ", and the generator could not offer all");
    return well;
}

/* The highest rate carried, found by doubling and halving; 0 when none was. */
static double highest(struct traffic *t)
{
    double low = 0, high = 0, rate = t->o->rate > 0 ? t->o->rate : 10000;
    while (!fleet_interrupted && rate >= 1 && rate <= RATE_MAX) {
        if (carries(t, rate))
            low = rate;
        else
            high = rate;
        if (low > 0 && high > 0 && high - low <= RESOLUTION * high)
            break;
        rate = high > 0 ? (low + high) / 2 : 2 * low;
    }
    return low;
}

/* Lowers the rate until it is carried as often as asked, one trial after the other. */
static double confirmed(struct traffic *t, double rate)
{
    for (unsigned well = 0; well < t->o->confirm && rate >= 1 && !fleet_interrupted;) {
        if (carries(t, rate)) {
            well++;
        } else {
            well = 0;
            rate *= BACK_OFF;
        }
    }
    return rate;
}

int mode_search(const struct options *o)
{
    static struct stage s;
    static struct traffic_result at_max;
    struct report r = {0};
    int status = stage_open(&s, o);
    if (status >= 0)
        goto close;
    double rate = confirmed(&s.traffic, highest(&s.traffic));
    at_max = trial;
    traffic_run(&s.traffic, MAX(1.0, rate * LATENCY_PART), o->warmup, o->duration, &trial);
    report_traffic_asked(&r, &s);
    report_put(&r, "loss_allowed_percent", "%g", o->loss);
    report_put(&r, "max_rate_pps", "%.0f", rate);
    report_figure(&r, "max_packets_per_cpu_s", at_max.cpu.server_ns, 0,
                  (double)at_max.relayed * 1e9 / (double)at_max.cpu.server_ns);
    report_run(&r, o, &trial);
    bool bad = rate < 1 || fleet_interrupted || traffic_loss(&trial) > o->max_loss;
    status = report_finish(&r, o, fleet_failures(&s.fleet) || bad ? EXIT_LOST : EXIT_WELL);
close:
    stage_close(&s);
    return status;
}
