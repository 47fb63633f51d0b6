/*
 * Runs a program that the kernel refuses something, as a container's seccomp profile or an older
 * kernel would:
 *
 *   refuse io_uring EPERM|ENOSYS|ENOMEM PROGRAM [ARGUMENT...]   io_uring_setup fails so
 *   refuse io_uring_after:N ENOMEM      PROGRAM [ARGUMENT...]   likewise, but the first N times
 *   refuse buffers  EPERM               PROGRAM [ARGUMENT...]   no socket buffer over the limits
 *   refuse fallocate EPERM              PROGRAM [ARGUMENT...]   no memory before it is written to
 *   refuse all_but:N[,N...] EPERM       PROGRAM [ARGUMENT...]   no system calls but these
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define ALLOW                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define FAIL(err)             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)(err))

static int install(struct sock_filter *filter, size_t n)
{
    struct sock_fprog program = {(unsigned short)n, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0
               ? 0
               : -errno;
}

static int refuse_io_uring(int err)
{
    struct sock_filter filter[] = {LOAD(nr), SKIP_UNLESS(__NR_io_uring_setup, 1), FAIL(err), ALLOW};
    return install(filter, sizeof(filter) / sizeof(filter[0]));
}

/* Answers for the kernel, as long as the program lives: so many calls are carried out. */
static void decide(int listener, unsigned allowed, int err)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0;; i++) {
        struct seccomp_notif call = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
            _exit(1);
        struct seccomp_notif_resp answer = {.id = call.id};
        if (i < allowed)
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        else
            answer.error = -err;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

static int refuse_io_uring_after(unsigned allowed, int err)
{
    struct sock_filter filter[] = {LOAD(nr), SKIP_UNLESS(__NR_io_uring_setup, 1),
                                   BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF), ALLOW};
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    int listener = (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
                                SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        return -errno;
    pid_t child = fork();
    if (child == 0) {
        for (int fd = 0; fd < 16; fd++) /* none of the program's own ends */
            if (fd != listener)
                close(fd);
        decide(listener, allowed, err);
    }
    close(listener);
    return child < 0 ? -errno : 0;
}

/* SO_RCVBUFFORCE and SO_SNDBUFFORCE, which CAP_NET_ADMIN allows. args[2] is their name. */
static int refuse_buffers(int err)
{
    struct sock_filter filter[] = {
        LOAD(nr),  SKIP_UNLESS(__NR_setsockopt, 5), LOAD(args[2]), SKIP_UNLESS(SO_RCVBUFFORCE, 1),
        FAIL(err), SKIP_UNLESS(SO_SNDBUFFORCE, 1),  FAIL(err),     ALLOW};
    return install(filter, sizeof(filter) / sizeof(filter[0]));
}

static int refuse_fallocate(int err)
{
    struct sock_filter filter[] = {LOAD(nr), SKIP_UNLESS(__NR_fallocate, 1), FAIL(err), ALLOW};
    return install(filter, sizeof(filter) / sizeof(filter[0]));
}

/* As many comparisons as there are numbers, then the refusal. */
static int refuse_all_but(const char *numbers, int err)
{
    static struct sock_filter filter[BPF_MAXINSNS] = {LOAD(nr)};
    size_t n = 1;
    for (const char *p = numbers; *p && n + 3 < BPF_MAXINSNS;
         p += strcspn(p, ","), p += *p == ',') {
        filter[n++] = (struct sock_filter)SKIP_UNLESS((unsigned)strtoul(p, NULL, 10), 1);
        filter[n++] = (struct sock_filter)ALLOW;
    }
    filter[n++] = (struct sock_filter)FAIL(err);
    return install(filter, n);
}

static int error_named(const char *name)
{
    static const struct {
        const char *name;
        int err;
    } errors[] = {{"EPERM", EPERM}, {"ENOSYS", ENOSYS}, {"ENOMEM", ENOMEM}};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (strcmp(name, errors[i].name) == 0)
            return errors[i].err;
    return 0;
}

int main(int argc, char **argv)
{
    int err = argc > 3 ? error_named(argv[2]) : 0;
    int ret = -EINVAL;
    if (err && strcmp(argv[1], "io_uring") == 0)
        ret = refuse_io_uring(err);
    else if (err && strncmp(argv[1], "io_uring_after:", 15) == 0)
        ret = refuse_io_uring_after((unsigned)strtoul(argv[1] + 15, NULL, 10), err);
    else if (err && strcmp(argv[1], "buffers") == 0)
        ret = refuse_buffers(err);
    else if (err && strcmp(argv[1], "fallocate") == 0)
        ret = refuse_fallocate(err);
    else if (err && strncmp(argv[1], "all_but:", 8) == 0)
        ret = refuse_all_but(argv[1] + 8, err);
    if (ret == 0) {
        execv(argv[3], argv + 3);
        ret = -errno;
    }
    fprintf(stderr, "refuse: %s\n", strerror(-ret));
    return 1;
}
