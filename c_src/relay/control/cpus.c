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

/* "150000 100000": so many microseconds in each period of so many; or "max 100000". */
static unsigned quota_of(const char *file)
{
    unsigned long quota, period;
    FILE *f = fopen(file, "re");
    if (!f)
        return 0;
    bool limited = fscanf(f, "%lu %lu", &quota, &period) == 2 && period > 0;
    fclose(f);
    return limited ? (unsigned)MIN(MAX((quota + period - 1) / period, 1), CPUS_MAX) : 0;
}

/* What a group may use its parents must have. */
unsigned cpus_quota(const char *root, const char *path)
{
    char file[PATH_LEN];
    size_t len = strlen(path);
    unsigned least = 0;
    for (;;) {
        snprintf(file, sizeof(file), "%s%.*s/cpu.max", root, (int)len, path);
        unsigned quota = quota_of(file);
        if (quota && (!least || quota < least))
            least = quota;
        if (len == 0)
            return least;
        while (len > 0 && path[--len] != '/')
            ;
    }
}

/* The line of version 2 is "0::/path". */
static bool own_cgroup(char path[PATH_LEN])
{
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[PATH_LEN + 8];
    while (f && !found && fgets(line, sizeof(line), f))
        found = strncmp(line, "0::", 3) == 0;
    if (f)
        fclose(f);
    if (found)
        snprintf(path, PATH_LEN, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    return found;
}

unsigned cpus_usable(void)
{
    char path[PATH_LEN];
    unsigned n = in_affinity();
    unsigned quota = own_cgroup(path) ? cpus_quota(CGROUPS, path) : 0;
    if (quota)
        n = MIN(n, quota);
    return MIN(MAX(n, 1u), (unsigned)WORKERS_MAX);
}
