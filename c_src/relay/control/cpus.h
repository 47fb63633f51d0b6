/*
 * How many CPUs this program may use: fewer than the machine has where it is bound to some of them
 * (affinity, a cpuset) or its cgroup has a quota of time.
 */
#ifndef MEERKAT_CPUS_H
#define MEERKAT_CPUS_H

/* At least 1, at most WORKERS_MAX. */
unsigned cpus_usable(void);

/* CPUs that the quota of a cgroup and those around it comes to, rounded up; 0 without a quota. root
 * is where the tree of cgroups is mounted, of version 2 or of the controller cpu of version 1, path
 * the group's own below it, "/a/b". */
unsigned cpus_quota(const char *root, const char *path);

/* The same by a line of /proc/self/cgroup, with root the place where all trees are mounted. */
unsigned cpus_quota_by(const char *root, const char *line);

#endif
