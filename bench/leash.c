/*
 * Runs a command and ends it, with all it started, when our stdin ends, we are told to end, or we
 * are killed: nothing that a benchmark started outlives it, however it ends itself. Knows nothing
 * of what it runs.
 *
 *     leash COMMAND [ARGUMENT...]
 *
 * The command has a process group of its own, /dev/null as stdin, and our stdout and stderr. Its
 * exit status is ours, 128 + N after signal N.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, EXIT_NOT_STARTED = 127 };

static sigset_t watched(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

static void run(char **command, const sigset_t *held, pid_t parent)
{
    setpgid(0, 0);
    sigprocmask(SIG_UNBLOCK, held, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_NOT_STARTED);
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    execvp(command[0], command);
    fprintf(stderr, "%s: %s\n", command[0], strerror(errno));
    _exit(EXIT_NOT_STARTED);
}

/* Takes in whatever has ended; true, and its status, when the command is among it. What the
 * command leaves behind becomes our child too. */
static bool reap(pid_t command, int *status)
{
    bool ended = false;
    int one;
    for (pid_t pid; (pid = waitpid(-1, &one, WNOHANG)) > 0;) {
        if (pid != command)
            continue;
        *status = WIFEXITED(one) ? WEXITSTATUS(one) : 128 + WTERMSIG(one);
        ended = true;
    }
    return ended;
}

/* Empties the descriptor; true when a signal other than SIGCHLD was among it. */
static bool told_to_end(int signals)
{
    struct signalfd_siginfo info;
    bool told = false;
    while (read(signals, &info, sizeof(info)) == sizeof(info))
        told |= info.ssi_signo != SIGCHLD;
    return told;
}

static bool stdin_ended(void)
{
    char bytes[256];
    return read(STDIN_FILENO, bytes, sizeof(bytes)) <= 0;
}

static int watch(pid_t command, int signals)
{
    struct pollfd fds[] = {{signals, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    bool ending = false;
    for (int status = 0;;) {
        int ready = poll(fds, ending ? 1 : 2, ending ? PATIENCE_MS : -1);
        bool end = ready > 0 && fds[0].revents && told_to_end(signals);
        if (reap(command, &status))
            return status;
        if (ending && ready == 0)
            kill(-command, SIGKILL);
        if (!ending && ready > 0 && (end || (fds[1].revents && stdin_ended()))) {
            ending = true;
            kill(command, SIGTERM);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: leash COMMAND [ARGUMENT...]\n");
        return 2;
    }
    sigset_t set = watched();
    sigprocmask(SIG_BLOCK, &set, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    pid_t self = getpid();
    pid_t command = signals < 0 ? -1 : fork();
    if (command == 0)
        run(argv + 1, &set, self);
    if (command < 0) {
        perror("leash");
        return EXIT_NOT_STARTED;
    }
    int status = watch(command, signals);
    kill(-command, SIGKILL);
    return status;
}
