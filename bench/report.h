/*
 * A row of named figures, shown as a table and added to a CSV file: both say the same, in the order
 * the figures were put in. Knows no figure.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "base.h"

enum { REPORT_MAX = 80, REPORT_TEXT = 128 };

struct report {
    unsigned count;
    struct {
        const char *name;
        char value[REPORT_TEXT];
    } row[REPORT_MAX];
};

/* The name is a column of the CSV file, with its unit; it stays the caller's. */
void report_put(struct report *r, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A figure with so many decimals; empty when it is not known. */
void report_figure(struct report *r, const char *name, bool known, int decimals, double value);

/* One line for each figure, on stdout; empty ones are left out. */
void report_table(const struct report *r);

/* Adds the row to the file, under a header when the file is new or empty. 0, or -1: it could not be
 * written or has another header, and stderr says which. */
int report_csv(const struct report *r, const char *file);

#endif
