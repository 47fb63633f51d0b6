/*
 * What the program can be asked to do. Each returns an exit status (options.h) and prints its
 * report.
 */
#ifndef BENCH_MODES_H
#define BENCH_MODES_H

#include "options.h"
#include "report.h"

int mode_traffic(const struct options *o); /* also MODE_SINK */
int mode_search(const struct options *o);
int mode_allocations(const struct options *o);
int mode_keepalives(const struct options *o);
int mode_strangers(const struct options *o); /* MODE_BINDING and MODE_CHALLENGE */
int mode_idle(const struct options *o);

/* The first columns of every report: label and what was asked for. */
void report_asked(struct report *r, const struct options *o);

/* Shows the report and adds it to the CSV file; the status, or EXIT_USAGE when that failed. */
int report_finish(const struct report *r, const struct options *o, int status);

#endif
