/*
 * How many workers a machine gets by itself: what affinity and the quota of cgroups leave of it.
 */
#include "cpus.h"

#include <sched.h>
#include <sys/stat.h>

#include "socket.h"
#include "test.h"

static char root[] = "/tmp/meerkat-cpus-XXXXXX";

static void file(const char *path, const char *name, const char *text)
{
    char whole[256];
    snprintf(whole, sizeof(whole), "%s%s", root, path);
    mkdir(whole, 0700);
    snprintf(whole, sizeof(whole), "%s%s/%s", root, path, name);
    FILE *f = fopen(whole, "w");
    if (CHECK(f)) {
        fputs(text, f);
        fclose(f);
    }
}

static void group(const char *path, const char *quota)
{
    file(path, "cpu.max", quota);
}

static void group_v1(const char *path, const char *quota, const char *period)
{
    file(path, "cpu.cfs_quota_us", quota);
    file(path, "cpu.cfs_period_us", period);
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

static void a_quota_of_version_1_counts_too(void)
{
    file("/cpu,cpuacct", "tasks", "");
    group_v1("/cpu,cpuacct/a", "250000\n", "100000\n");
    group_v1("/cpu,cpuacct/a/b", "-1\n", "100000\n");
    group_v1("/cpu,cpuacct/c", "-1\n", "100000\n");
    CHECK_EQ(cpus_quota_by(root, "4:cpu,cpuacct:/a\n"), 3);
    CHECK_EQ(cpus_quota_by(root, "4:cpu,cpuacct:/a/b\n"), 3); /* its parent's */
    CHECK_EQ(cpus_quota_by(root, "4:cpu,cpuacct:/c\n"), 0);
    CHECK_EQ(cpus_quota_by(root, "4:cpu,cpuacct:/elsewhere\n"), 0);
    CHECK_EQ(cpus_quota_by(root, "5:cpuset:/a\n"), 0);
    CHECK_EQ(cpus_quota_by(root, "1:name=systemd:/a\n"), 0);
    file("/cpu", "tasks", "");
    group_v1("/cpu/a", "100000\n", "100000\n");
    CHECK_EQ(cpus_quota_by(root, "7:cpu:/a\n"), 1);
    CHECK_EQ(cpus_quota_by(root, "0::/a/b/c\n"), 1);
    CHECK_EQ(cpus_quota_by(root, "0::/d\n"), 0);
    CHECK_EQ(cpus_quota_by(root, "nonsense"), 0);
    file("/unified", "tasks", "");
    group("/unified/h", "300000 100000\n");
    CHECK_EQ(cpus_quota_by(root, "0::/h\n"), 3);
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
    RUN(a_quota_of_version_1_counts_too);
    RUN(affinity_counts);
    snprintf(command, sizeof(command), "rm -r %s", root);
    CHECK_EQ(system(command), 0);
    return test_end("cpus");
}
