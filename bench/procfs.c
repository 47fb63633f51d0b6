/*
 * Reads /proc. What a process that ended used is gone with it: figures are those of tasks alive.
 */
#include "procfs.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

enum { PATH_LEN = 320 };

bool procfs_alive(int pid)
{
    char path[PATH_LEN];
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    return access(path, R_OK) == 0;
}

static bool is_named(const char *pid, const char *name)
{
    char path[PATH_LEN], comm[64] = "";
    snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool got = fgets(comm, sizeof(comm), f);
    fclose(f);
    comm[strcspn(comm, "\n")] = '\0';
    /* The kernel keeps 15 characters. */
    return got && strncmp(comm, name, 15) == 0;
}

unsigned procfs_find(const char *name, int *pids, unsigned count, unsigned max)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL && count < max)
        if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name) &&
            is_named(entry->d_name, name))
            pids[count++] = atoi(entry->d_name);
    if (dir)
        closedir(dir);
    return count;
}

static uint64_t task_ns(int pid, const char *task)
{
    char path[PATH_LEN];
    uint64_t ns = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, task);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%" SCNu64, &ns) != 1)
        ns = 0;
    fclose(f);
    return ns;
}

static uint64_t process_ns(int pid)
{
    char path[PATH_LEN];
    uint64_t ns = 0;
    struct dirent *entry;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            ns += task_ns(pid, entry->d_name);
    if (dir)
        closedir(dir);
    return ns;
}

/* The line of all CPUs: user nice system idle iowait irq softirq steal, in clock ticks. */
static void machine(struct procfs_cpu *out)
{
    uint64_t softirq, stolen, tick = NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK);
    FILE *f = fopen("/proc/stat", "r");
    if (f &&
        fscanf(f, "cpu %*u %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &softirq, &stolen) == 2) {
        out->softirq_ns = softirq * tick;
        out->stolen_ns = stolen * tick;
    }
    if (f)
        fclose(f);
}

void procfs_cpu(struct procfs_cpu *out, const int *pids, unsigned count)
{
    struct timespec self;
    *out = (struct procfs_cpu){0};
    for (unsigned i = 0; i < count; i++) {
        out->process_ns[i] = process_ns(pids[i]);
        out->server_ns += out->process_ns[i];
    }
    machine(out);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &self);
    out->self_ns = (uint64_t)self.tv_sec * NS_PER_S + (uint64_t)self.tv_nsec;
}

bool procfs_cpu_since(struct procfs_cpu *to, const struct procfs_cpu *from)
{
    bool all = true;
    to->server_ns = 0;
    for (unsigned i = 0; i < PIDS_MAX; i++) {
        bool known = to->process_ns[i] >= from->process_ns[i];
        to->process_ns[i] = known ? to->process_ns[i] - from->process_ns[i] : 0;
        to->server_ns += to->process_ns[i];
        all &= known;
    }
    to->softirq_ns -= from->softirq_ns;
    to->stolen_ns -= from->stolen_ns;
    to->self_ns -= from->self_ns;
    return all;
}

/* The sum, in kB, of those lines "NAME: N kB" whose name is among the names (NULL behind). */
static uint64_t lines_kb(const char *path, const char *const *names)
{
    char line[256];
    uint64_t sum = 0, kb;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        for (unsigned i = 0; names[i]; i++) {
            size_t len = strlen(names[i]);
            if (strncmp(line, names[i], len) == 0 && line[len] == ':' &&
                sscanf(line + len + 1, "%" SCNu64, &kb) == 1)
                sum += kb;
        }
    if (f)
        fclose(f);
    return sum;
}

/* Slabs that a socket and its file lie in; root alone may read them. */
static uint64_t sockets_kb(void)
{
    static const char *const names[] = {"UDP ",    "UDPv6 ", "sock_inode_cache ",
                                        "dentry ", "filp ",  "eventpoll_epi "};
    char line[512];
    uint64_t bytes = 0, objects, size;
    FILE *f = fopen("/proc/slabinfo", "r");
    while (f && fgets(line, sizeof(line), f))
        for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
            if (strncmp(line, names[i], strlen(names[i])) == 0 &&
                sscanf(line, "%*s %*u %" SCNu64 " %" SCNu64, &objects, &size) == 2)
                bytes += objects * size;
    if (f)
        fclose(f);
    return bytes / 1024;
}

void procfs_memory(struct procfs_memory *out, const int *pids, unsigned count)
{
    static const char *const rss[] = {"VmRSS", NULL}, *const pss[] = {"Pss", NULL};
    static const char *const kernel[] = {"SReclaimable", "SUnreclaim", "Percpu",
                                         "KernelStack",  "PageTables", NULL};
    char path[PATH_LEN];
    *out = (struct procfs_memory){0};
    for (unsigned i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "/proc/%d/status", pids[i]);
        out->rss_kb += lines_kb(path, rss);
        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pids[i]);
        out->pss_kb += lines_kb(path, pss);
    }
    out->kernel_kb = lines_kb("/proc/meminfo", kernel);
    out->socket_kb = sockets_kb();
}
