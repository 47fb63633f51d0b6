/*
 * How many CPUs this program may use: fewer than the machine has where it is bound to some of them
 * (affinity, a cpuset) or its cgroup has a quota of time.
 */
#ifndef MEERKAT_CPUS_H
#define MEERKAT_CPUS_H

/* At least 1, at most WORKERS_MAX. */
unsigned cpus_usable(void);

/* CPUs that the quota of a cgroup and those around it comes to, rounded up; 0 without a quota. root
 * is where cgroup version 2 is mounted, path the group's own below it, "/a/b". */
unsigned cpus_quota(const char *root, const char *path);

#endif
