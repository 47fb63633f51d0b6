/*
 * A load generator for TURN servers: `meerkat_bench --help` tells what it can do.
 *
 * One process and one thread play the clients and their peers, with one clock. It knows servers by
 * their address and, for CPU and memory, by process id; nothing here is particular to one of them.
 */
#include "modes.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "crypto.h"
#include "fleet.h"
#include "procfs.h"

static void interrupted(int signal)
{
    (void)signal;
    fleet_interrupted = 1;
}

/* The first asks to stop in order, the next ends it. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = interrupted, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) == 0)
        return 0;
    fprintf(stderr, "meerkat_bench: --cpu %d: %s\n", cpu, strerror(errno));
    return -1;
}

static bool are_there(const char *option, const int *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!procfs_alive(pids[i])) {
            fprintf(stderr, "meerkat_bench: --%s %d: no such process\n", option, pids[i]);
            return false;
        }
    }
    return true;
}

/* Names to process ids; each must be there. */
static int find_servers(struct options *o)
{
    if (!are_there("server-pid", o->pids, o->pid_count) ||
        !are_there("part-pid", o->parts, o->part_count))
        return -1;
    for (unsigned i = 0; i < o->name_count; i++) {
        unsigned count = procfs_find(o->names[i], o->pids, o->pid_count, PIDS_MAX);
        if (count == o->pid_count) {
            fprintf(stderr, "meerkat_bench: --server-name %s: no such process\n", o->names[i]);
            return -1;
        }
        o->pid_count = count;
    }
    return 0;
}

void report_asked(struct report *r, const struct options *o)
{
    report_put(r, "label", "%s", o->label);
    report_put(r, "mode", "%s", mode_name(o->mode));
    report_put(r, "server", "%s", o->uri ? o->uri : "");
    if (o->mode != MODE_ALLOCATIONS)
        report_put(r, "flows", "%u", o->flows);
}

int report_finish(const struct report *r, const struct options *o, int status)
{
    report_table(r);
    return o->csv && report_csv(r, o->csv) != 0 ? EXIT_USAGE : status;
}

int main(int argc, char **argv)
{
    static struct options o;
    int status = options_parse(&o, argc, argv);
    if (status >= 0)
        return status;
    if (find_servers(&o) != 0 || (o.cpu >= 0 && pin(o.cpu) != 0))
        return EXIT_USAGE;
    prctl(PR_SET_TIMERSLACK, 1UL);
    catch_signals();
    switch (o.mode) {
    case MODE_TRAFFIC:
    case MODE_SINK:
        status = mode_traffic(&o);
        break;
    case MODE_SEARCH:
        status = mode_search(&o);
        break;
    case MODE_ALLOCATIONS:
        status = mode_allocations(&o);
        break;
    case MODE_KEEPALIVES:
        status = mode_keepalives(&o);
        break;
    case MODE_BINDING:
    case MODE_CHALLENGE:
        status = mode_strangers(&o);
        break;
    case MODE_IDLE:
        status = mode_idle(&o);
        break;
    }
    crypto_zero(o.password, sizeof(o.password));
    return status;
}
