/*
 * What was asked for on the command line, checked. Knows nothing of how it is done.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "addr.h"
#include "procfs.h"

enum mode {
    MODE_TRAFFIC,
    MODE_ALLOCATIONS,
    MODE_KEEPALIVES,
    MODE_BINDING,
    MODE_CHALLENGE,
    MODE_IDLE,
    MODE_SEARCH,
    MODE_SINK
};
enum method { METHOD_CHANNEL, METHOD_SEND };
enum direction { DIRECTION_UP, DIRECTION_DOWN, DIRECTION_BOTH, DIRECTION_ECHO };

/* Exit statuses; see --help. */
enum { EXIT_WELL = 0, EXIT_LOST = 1, EXIT_USAGE = 2, EXIT_NOTHING = 3 };

enum { NAMES_MAX = 8, USER_MAX = 255, SERVERS_MAX = 16 };

struct options {
    enum mode mode;
    struct addr servers[SERVERS_MAX]; /* of the URIs, clients take turns; none in MODE_SINK */
    unsigned server_count;
    const char *uri; /* the first */
    char user[USER_MAX + 1], password[USER_MAX + 1];
    const char *secret;

    unsigned flows, flows_more; /* idle holds flows, then flows_more */
    unsigned channels;
    enum method method;
    enum direction direction;
    bool pairs; /* clients are each other's peers, two and two */
    unsigned payload, burst;
    bool gso, gro;
    double rate; /* packets a second, all flows and directions; 0: as fast as they go */
    bool rate_given;
    double duration, warmup;
    double max_late;  /* seconds after which what was due is skipped */
    double keep;      /* seconds after which permissions, channels and allocations are prolonged */
    struct addr peer; /* none: the address that reaches the server */
    unsigned family;  /* 4 or 6: REQUESTED-ADDRESS-FAMILY; 0: none in the request */
    unsigned clients; /* sockets shared by all flows; 0: a socket for each */
    unsigned sources; /* loopback addresses clients come from; 0: as many as needed */

    unsigned in_flight;
    uint64_t count; /* cycles; 0: as many as --duration allows */

    double loss; /* percent a trial of a search may lose */
    double trial;
    unsigned confirm;

    int pids[PIDS_MAX];
    unsigned pid_count;
    const char *names[NAMES_MAX];
    unsigned name_count;
    int parts[PIDS_MAX]; /* of these processes the memory is told by itself, too */
    unsigned part_count;
    int cpu; /* -1: not pinned */

    const char *csv, *label;
    bool quiet, progress;
    double max_loss; /* percent */
};

/* Fills *o. Returns -1, or the status to exit with when there is nothing to run: usage was wrong
 * and stderr says where, or help was asked for. */
int options_parse(struct options *o, int argc, char **argv);

const char *mode_name(enum mode mode);
const char *method_name(enum method method);
const char *direction_name(enum direction direction);

#endif
