/*
 * What the kernel says of processes and of itself: CPU time by /proc/PID/task/TASK/schedstat,
 * memory by smaps_rollup and meminfo. Knows nothing of servers but their process ids.
 */
#ifndef BENCH_PROCFS_H
#define BENCH_PROCFS_H

#include "base.h"

enum { PIDS_MAX = 32 };

struct procfs_cpu {
    uint64_t server_ns; /* all tasks of the processes */
    uint64_t process_ns[PIDS_MAX];
    uint64_t softirq_ns, stolen_ns; /* of the whole machine, by clock tick */
    uint64_t self_ns;               /* this process */
};

struct procfs_memory {
    uint64_t rss_kb, pss_kb; /* of the processes; PSS 0 where it may not be read */
    uint64_t kernel_kb;      /* slabs, per-CPU memory, kernel stacks and page tables */
    uint64_t socket_kb;      /* slabs of sockets, inodes and files; 0 where they may not be read */
};

/* Adds the processes of that name to pids; how many there are then, at most max. */
unsigned procfs_find(const char *name, int *pids, unsigned count, unsigned max);

/* Is there such a process? */
bool procfs_alive(int pid);

void procfs_cpu(struct procfs_cpu *out, const int *pids, unsigned count);

/* Makes `to` what was used since `from`. False when one of the processes has ended or was replaced:
 * what it used is unknown and left out. */
bool procfs_cpu_since(struct procfs_cpu *to, const struct procfs_cpu *from);

void procfs_memory(struct procfs_memory *out, const int *pids, unsigned count);

#endif
