#include "tether.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "log.h"

enum {
    WAIT_MS = 3000, /* for a relay that is ending, or has not seen yet that its Erlang died */
    STEP_MS = 10,
    HUNG_MS = 10000, /* for an answer of the relay; as long as Erlang waits for one that hangs */
    READ_MS = 1000,  /* for Erlang to read what the relay wrote last */
    EXIT_UNKNOWN = 69,
};

/* The layout is the same in every version. Tether and relay understand each other if version and
 * table_hash are equal. */
struct greeting {
    uint32_t magic, version;
    uint64_t table_hash;
};

static struct greeting greeting(void)
{
    return (struct greeting){0x4d4b4f57u, CTL_VERSION, ctl_table_hash()};
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void nap(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

bool tether_is_trusted(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

/* ------------------------------------------------------------------------------- handing over */

union ancillary {
    struct cmsghdr head;
    char room[CMSG_SPACE(TETHER_FDS * sizeof(int))];
};

static bool hand_over(int fd, int in_fd, int out_fd, bool replaces)
{
    struct greeting hello = greeting();
    if (replaces) /* the hash of no build, so that the relay makes way */
        hello.table_hash = 0;
    const int fds[TETHER_FDS] = {in_fd, out_fd, STDERR_FILENO};
    struct iovec iov = {&hello, sizeof(hello)};
    union ancillary a = {0};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = a.room, .msg_controllen = sizeof(a.room)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(head), fds, sizeof(fds));
    return sendmsg(fd, &m, MSG_NOSIGNAL) == sizeof(hello);
}

/* Copies the descriptors that came with the message; how many, at most TETHER_FDS. */
static int received(struct msghdr *m, int fds[TETHER_FDS])
{
    struct cmsghdr *head = CMSG_FIRSTHDR(m);
    if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
        return 0;
    size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(head), n * sizeof(int));
    return (int)n;
}

int tether_take(int fd, int fds[TETHER_FDS])
{
    const struct greeting ours = greeting();
    struct greeting theirs = {0};
    struct iovec iov = {&theirs, sizeof(theirs)};
    union ancillary a;
    /* CMSG_LEN and not the whole of a.room, whose padding would let in a fourth descriptor. */
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = a.room,
                       .msg_controllen = CMSG_LEN(TETHER_FDS * sizeof(int))};
    ssize_t len = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (len < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    int n = received(&m, fds);
    bool whole = len == sizeof(theirs) && theirs.magic == ours.magic && n == TETHER_FDS &&
                 !(m.msg_flags & MSG_CTRUNC);
    if (whole && theirs.version == ours.version && theirs.table_hash == ours.table_hash)
        return 0;
    for (int i = 0; i < n; i++)
        close(fds[i]);
    return whole ? -EPROTONOSUPPORT : -EPROTO;
}

void tether_answer(int fd, enum tether_word word)
{
    char byte = (char)word;
    ssize_t ignored = send(fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored; /* if the other end is gone, its pipes or this socket will say so */
}

/* ------------------------------------------------------------------------------------ the end */

/* When the relay is dead and Erlang writes to it, the port is closed at once, and Erlang loses what
 * it has not read yet. The tether holds the pipe's other ends until Erlang has read all of it. */
static void await_reader(int out_fd)
{
    uint64_t until = now_ms() + READ_MS;
    int left;
    while (now_ms() < until && ioctl(out_fd, FIONREAD, &left) == 0 && left > 0) {
        struct pollfd p = {.fd = out_fd};
        if (poll(&p, 1, 0) != 0)
            return; /* Erlang has closed its end */
        nap(1);
    }
}

/* Ends by the same signal as the relay, or returns the relay's exit status. */
static int end_as(int status)
{
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    return EXIT_UNKNOWN;
}

static int await_child(pid_t relay, int out_fd)
{
    int status = 0;
    while (waitpid(relay, &status, 0) < 0 && errno == EINTR)
        ;
    await_reader(out_fd);
    return end_as(status);
}

/* Waits until the relay closes the connection. It is not our child, so its exit status is unknown.
 */
static int await_other(int fd, int out_fd)
{
    char byte;
    prctl(PR_SET_NAME, "meerkat_tether");
    while (recv(fd, &byte, 1, 0) > 0 || errno == EINTR)
        errno = 0;
    await_reader(out_fd);
    return EXIT_UNKNOWN;
}

/* ---------------------------------------------------------------------------------- the start */

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    return a;
}

/* The caller has the lock, so a socket that is still at the path belongs to a relay that is dead.
 */
static int bind_socket(const char *path)
{
    const struct sockaddr_un a = address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    mode_t before = umask(0177);
    bool bound = fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;
    umask(before);
    if (bound && listen(fd, 8) == 0)
        return fd;
    log_error("cannot listen on %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Leaves the session of the terminal, whose end would end the relay, and the tether's stdin and
 * stdout, whose readers wait until they are closed. */
static void become_relay(void)
{
    setsid();
    signal(SIGHUP, SIG_IGN);
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    if (chdir("/") != 0)
        log_info("stays in the directory that it was started in: %s", strerror(errno));
}

/* `meerkat stop` reads the number. The new one is written over the old one before the file is cut
 * to its length, so the first line is always one of the two. */
static void write_pid(int lock)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (pwrite(lock, text, (size_t)len, 0) != len || ftruncate(lock, len) != 0)
        log_info("the lock file does not say who has it: %s", strerror(errno));
}

/* -1 in the child, the relay. In the tether: the status to exit with, once the relay has ended. */
static int fork_relay(struct tether_start *start, int lock, int out_fd)
{
    pid_t relay = fork();
    if (relay == 0) {
        become_relay();
        return -1;
    }
    if (relay < 0)
        log_error("cannot start the relay: %s", strerror(errno));
    if (start->socket >= 0)
        close(start->socket);
    if (start->from >= 0)
        close(start->from);
    parcel_end(&start->parcel);
    close(lock);
    prctl(PR_SET_NAME, "meerkat_tether");
    return relay < 0 ? EXIT_SYSTEM : await_child(relay, out_fd);
}

/* The child inherits the lock's descriptor and never closes it: so it has the lock until it ends.
 */
static int start_relay(struct tether_start *start, int lock, int out_fd)
{
    start->socket = bind_socket(start->path);
    if (start->socket < 0)
        return EXIT_SYSTEM;
    int status = fork_relay(start, lock, out_fd);
    if (status < 0)
        write_pid(lock);
    return status;
}

int tether_claim(const char *path, int lock)
{
    if (flock(lock, LOCK_EX | LOCK_NB) != 0)
        return -1;
    write_pid(lock);
    return bind_socket(path);
}

static int connect_to(const char *path)
{
    const struct sockaddr_un a = address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0 &&
        tether_is_trusted(fd))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* What the relay answers until then: a tether_word, 0 if it has closed, -1 if nothing came. */
static int answer(int fd, uint64_t until)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte = 0;
    for (uint64_t now; (now = now_ms()) < until;) {
        int n = poll(&p, 1, (int)(until - now));
        if (n > 0)
            return recv(fd, &byte, 1, 0) == 1 ? byte : 0;
        if (n < 0 && errno != EINTR)
            return 0;
    }
    return -1;
}

/* The process number of the relay that has the lock; 0 if the file does not say. */
static int holder(int lock)
{
    char text[16] = {0};
    ssize_t n = pread(lock, text, sizeof(text) - 1, 0);
    return n > 0 && atoi(text) > 1 ? atoi(text) : 0;
}

/* A relay that does not answer would keep its ports for ever. Its node, which could have ended it,
 * is gone. */
static void end_hung(int lock)
{
    if (!holder(lock))
        return;
    log_error("the relay %d answers nobody: it is killed", holder(lock));
    kill(holder(lock), SIGKILL);
}

/* Does the relay that has the lock run another file than this program, an older release's perhaps?
 * If /proc does not tell, only the greeting decides whether it makes way. */
static bool is_another_program(int lock)
{
    char name[32];
    struct stat theirs, ours;
    snprintf(name, sizeof(name), "/proc/%d/exe", holder(lock));
    return holder(lock) && stat(name, &theirs) == 0 && stat("/proc/self/exe", &ours) == 0 &&
           (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino);
}

enum { NOT_NOW = -1, KILLED = -2, CHILD = -3 };

/* Connects to the relay that has the lock, and hands it Erlang's pipes. Returns the exit status
 * once that relay has ended; NOT_NOW if it lets nobody in now; KILLED if it did not answer and was
 * killed; CHILD in the new relay that takes over from it.
 *
 * The pipes are sent only after TETHER_WELCOME: descriptors in a socket that nobody reads would
 * keep Erlang's pipes open. */
static int join_relay(struct tether_start *start, int lock, int in_fd, int out_fd)
{
    int fd = connect_to(start->path);
    if (fd < 0)
        return NOT_NOW;
    int word = answer(fd, now_ms() + HUNG_MS);
    if (word < 0)
        end_hung(lock);
    int next = 0;
    if (word == TETHER_WELCOME &&
        hand_over(fd, in_fd, out_fd, start->replaces || is_another_program(lock)))
        next = answer(fd, now_ms() + HUNG_MS);
    if (next == TETHER_IN)
        return await_other(fd, out_fd);
    if (next == TETHER_TAKE && parcel_receive(fd, &start->parcel)) {
        start->from = fd;
        start->lock = lock;
        int status = fork_relay(start, lock, out_fd);
        return status < 0 ? CHILD : status;
    }
    close(fd);
    return word < 0 ? KILLED : NOT_NOW;
}

/* ------------------------------------------------------------------------------ where it stands */

/* The directory is this user's alone: nobody else can have put a file there, or can enter. */
static bool is_private(const char *path)
{
    char dir[TETHER_PATH];
    struct stat st;
    const char *end = strrchr(path, '/');
    if (!end || path[0] != '/' || strlen(path) >= sizeof(dir)) {
        log_error("%s is no path that a socket could have", path);
        return false;
    }
    snprintf(dir, sizeof(dir), "%.*s", end == path ? 1 : (int)(end - path), path);
    if (lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
        !(st.st_mode & 077))
        return true;
    log_error("%s must be a directory of this user with mode 0700", dir);
    return false;
}

static int open_lock(const char *path)
{
    char name[TETHER_PATH + 8];
    struct stat st;
    snprintf(name, sizeof(name), "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid())
        return fd;
    log_error("cannot use %s: %s", name, fd < 0 ? strerror(errno) : "it is another's");
    if (fd >= 0)
        close(fd);
    return -1;
}

int tether_run(struct tether_start *start, int in_fd, int out_fd)
{
    const char *path = start->path;
    int lock = is_private(path) ? open_lock(path) : -1;
    if (lock < 0)
        return EXIT_SYSTEM;
    uint64_t until = now_ms() + WAIT_MS;
    do {
        if (flock(lock, LOCK_EX | LOCK_NB) == 0)
            return start_relay(start, lock, out_fd);
        int status = join_relay(start, lock, in_fd, out_fd);
        if (status >= 0 || status == CHILD)
            return MAX(status, -1);
        if (status == KILLED)
            until = now_ms() + WAIT_MS;
        nap(STEP_MS);
    } while (now_ms() < until);
    log_error("there is a relay at %s already, and Erlang with it", path);
    return EXIT_GOVERNED;
}
