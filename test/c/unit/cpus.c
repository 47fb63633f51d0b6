/*
 * How many workers a machine gets by itself: what affinity and the quota of cgroups leave of it.
 */
#include "cpus.h"

#include <sched.h>
#include <sys/stat.h>

#include "socket.h"
#include "test.h"

static char root[] = "/tmp/meerkat-cpus-XXXXXX";

static void group(const char *path, const char *quota)
{
    char name[256];
    snprintf(name, sizeof(name), "%s%s", root, path);
    mkdir(name, 0700);
    snprintf(name, sizeof(name), "%s%s/cpu.max", root, path);
    FILE *f = fopen(name, "w");
    if (CHECK(f)) {
        fputs(quota, f);
        fclose(f);
    }
}

static void a_quota_is_rounded_up(void)
{
    group("/a", "150000 100000\n");
    group("/a/b", "max 100000\n");
    group("/a/b/c", "1000 100000\n");
    group("/d", "max 100000\n");
    group("/e", "nonsense\n");
    CHECK_EQ(cpus_quota(root, "/a"), 2);
    CHECK_EQ(cpus_quota(root, "/a/b"), 2); /* its parent's */
    CHECK_EQ(cpus_quota(root, "/a/b/c"), 1);
    CHECK_EQ(cpus_quota(root, "/d"), 0);
    CHECK_EQ(cpus_quota(root, "/e"), 0);
    CHECK_EQ(cpus_quota(root, "/nowhere"), 0);
    CHECK_EQ(cpus_quota(root, "/"), 0);
}

static void affinity_counts(void)
{
    cpu_set_t before, one;
    CHECK_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    unsigned all = cpus_usable();
    CHECK(all >= 1 && all <= WORKERS_MAX);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    CHECK_EQ(cpus_usable(), 1);
    CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
    CHECK_EQ(cpus_usable(), all);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    char command[64];
    CHECK(mkdtemp(root));
    RUN(a_quota_is_rounded_up);
    RUN(affinity_counts);
    snprintf(command, sizeof(command), "rm -r %s", root);
    CHECK_EQ(system(command), 0);
    return test_end("cpus");
}
