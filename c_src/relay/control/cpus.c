#include "cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "socket.h"

#define CGROUPS "/sys/fs/cgroup"

enum { CPUS_MAX = 8192, PATH_LEN = 2048 };

/* The kernel refuses a set that is smaller than its own. */
static unsigned in_affinity(void)
{
    static cpu_set_t set[CPUS_MAX / CPU_SETSIZE];
    if (sched_getaffinity(0, sizeof(set), set) != 0)
        return 1;
    return (unsigned)CPU_COUNT_S(sizeof(set), set);
}

/* So many microseconds in each period of so many; 0 without a limit, which version 1 calls -1. */
static unsigned in_cpus(long quota, long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    return (unsigned)MIN(MAX((quota + period - 1) / period, 1L), (long)CPUS_MAX);
}

/* How many numbers a file begins with. */
static int read_numbers(const char *root, const char *path, int len, const char *name, long out[2])
{
    char file[PATH_LEN];
    snprintf(file, sizeof(file), "%s%.*s/%s", root, len, path, name);
    FILE *f = fopen(file, "re");
    int n = f ? fscanf(f, "%ld %ld", &out[0], &out[1]) : 0;
    if (f)
        fclose(f);
    return MAX(n, 0);
}

/* Version 2 has "150000 100000", or "max 100000", in one file; version 1 two files. */
static unsigned quota_of(const char *root, const char *path, int len)
{
    long max[2], quota[2], period[2];
    if (read_numbers(root, path, len, "cpu.max", max) == 2)
        return in_cpus(max[0], max[1]);
    if (read_numbers(root, path, len, "cpu.cfs_quota_us", quota) == 1 &&
        read_numbers(root, path, len, "cpu.cfs_period_us", period) == 1)
        return in_cpus(quota[0], period[0]);
    return 0;
}

/* The least quota of the group and of those around it: all of them limit it. */
unsigned cpus_quota(const char *root, const char *path)
{
    size_t len = strlen(path);
    unsigned least = 0;
    for (;;) {
        unsigned quota = quota_of(root, path, (int)len);
        if (quota && (!least || quota < least))
            least = quota;
        if (len == 0)
            return least;
        while (len > 0 && path[--len] != '/')
            ;
    }
}

/* Is `cpu` one of "cpu,cpuacct"? Without any it is a line of version 2. */
static bool is_of_cpu(const char *controllers, size_t len)
{
    for (size_t at = 0; at < len; at += strcspn(controllers + at, ",:") + 1)
        if (strcspn(controllers + at, ",:") == 3 && memcmp(controllers + at, "cpu", 3) == 0)
            return true;
    return false;
}

/* Of a line of /proc/self/cgroup: "0::/path" of version 2, whose tree may lie below where both
 * versions are used; "4:cpu,cpuacct:/path" of version 1, whose tree is named like its controllers.
 */
unsigned cpus_quota_by(const char *root, const char *line)
{
    char at[PATH_LEN], path[PATH_LEN];
    const char *controllers = strchr(line, ':');
    const char *second = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!second)
        return 0;
    size_t len = (size_t)(second - ++controllers);
    snprintf(path, sizeof(path), "%.*s", (int)strcspn(second + 1, "\n"), second + 1);
    if (len == 0) {
        snprintf(at, sizeof(at), "%s/unified", root);
        unsigned quota = cpus_quota(root, path);
        return quota ? quota : cpus_quota(at, path);
    }
    if (!is_of_cpu(controllers, len))
        return 0;
    snprintf(at, sizeof(at), "%s/%.*s", root, (int)len, controllers);
    return cpus_quota(at, path);
}

static unsigned own_quota(void)
{
    char line[PATH_LEN + 64];
    unsigned least = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof(line), f)) {
        unsigned quota = cpus_quota_by(CGROUPS, line);
        if (quota && (!least || quota < least))
            least = quota;
    }
    if (f)
        fclose(f);
    return least;
}

unsigned cpus_usable(void)
{
    unsigned n = in_affinity();
    unsigned quota = own_quota();
    if (quota)
        n = MIN(n, quota);
    return MIN(MAX(n, 1u), (unsigned)WORKERS_MAX);
}
