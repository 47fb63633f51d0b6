/*
 * A worker that stands still: it is noticed, nobody waits for it for ever, and it does not keep the
 * program from ending.
 */
#include "stalls.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "post_office.h"
#include "test.h"
#include "workers.h"

static struct control c;
static int to_erlang[2], from_erlang[2];

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void start(void)
{
    static const uint8_t key[STUN_NONCE_KEY_LEN] = {1};
    struct ctl_frame f = {.code = CTL_CONFIG,
                          .u.config = {.workers = 2,
                                       .sessions_max = 8,
                                       .peers_max = 8,
                                       .credits = 8,
                                       .nonce_lifetime_s = 3600,
                                       .channel_max = CHANNEL_MAX,
                                       .io_backend = BACKEND_EPOLL,
                                       .nonce_key = ctl_bytes_of(key, sizeof(key))}};
    memset(&c, 0, sizeof(c));
    must(pipe(to_erlang) == 0 && pipe(from_erlang) == 0 &&
         pipe_open(&c.pipe, from_erlang[0], to_erlang[1]));
    c.doorbell = eventfd(0, EFD_NONBLOCK);
    c.time = clock_read();
    pthread_mutex_init(&c.lock, NULL);
    pthread_mutex_lock(&c.lock);
    workers_config(&c, &f);
    must(c.worker_count == 2);
}

static sem_t still;

static void stand_still(int sig)
{
    (void)sig;
    sem_post(&still);
    for (;;)
        pause();
}

static void expect_still(void)
{
    struct sigaction sa = {.sa_handler = stand_still};
    sem_init(&still, 0, 0);
    sigaction(SIGUSR1, &sa, NULL);
}

static void await_still(void)
{
    while (sem_wait(&still) != 0)
        ;
}

/* The second worker stops in the middle of whatever it does. */
static void stall(void)
{
    expect_still();
    pthread_kill(c.workers[1].thread, SIGUSR1);
    await_still();
}

/* So does the thread for handshakes, which is the first that was started. */
static void stall_handshakes(void)
{
    int first = INT_MAX, tid;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *d; tasks && (d = readdir(tasks));)
        if ((tid = atoi(d->d_name)) > getpid())
            first = MIN(first, tid);
    must(tasks && first < INT_MAX);
    closedir(tasks);
    expect_still();
    must(syscall(SYS_tgkill, getpid(), first, SIGUSR1) == 0);
    await_still();
}

/* What a program that does this ends with; -1 where a signal ended it. */
static int status_of(void (*child)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        alarm(60);
        start();
        child();
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* So long, in which the first workers turn. */
static void look_for(unsigned seconds, unsigned turning)
{
    for (unsigned i = 0; i < seconds; i++) {
        c.time.now += NS_PER_S;
        for (unsigned w = 0; w < turning; w++)
            atomic_store(&c.workers[w].turned, c.time.now);
        stalls_look(&c);
    }
}

static void stalled(void)
{
    stall();
    look_for(40, 1);
}

static void stalled_handshakes(void)
{
    stall_handshakes();
    c.time = clock_read();
    look_for(40, 2);
}

/* The program was stopped for an hour: workers have not turned since, and are none the worse. */
static void stopped_as_a_whole(void)
{
    stall();
    c.time.now += 3600 * NS_PER_S;
    for (int i = 0; i < 1000; i++)
        stalls_look(&c);
    _exit(c.looks[1].count <= 1 ? 0 : 1);
}

static void mail_for_a_stalled_worker(void)
{
    static const uint8_t frame[4096];
    stall();
    for (;;)
        office_mail(&c, 1, MAIL_FRAME, frame, sizeof(frame));
}

static void mail_for_a_stalled_worker_when_erlang_ends(void)
{
    static const uint8_t frame[4096];
    stall();
    close(from_erlang[1]);
    while (!c.pipe.over)
        office_mail(&c, 1, MAIL_FRAME, frame, sizeof(frame));
    workers_stop(&c);
    _exit(1);
}

static void stop_with_a_stalled_worker(void)
{
    stall();
    pipe_end(&c.pipe, 5);
    workers_stop(&c);
    _exit(1);
}

static void stop_with_a_stalled_handshake(void)
{
    stall_handshakes();
    pipe_end(&c.pipe, 5);
    workers_stop(&c);
    _exit(1);
}

static void stop_with_workers_that_turn(void)
{
    pipe_end(&c.pipe, 0);
    workers_stop(&c);
    _exit(6);
}

/* ThreadSanitizer has threads of its own, among which that for handshakes is not to be found. */
#ifdef __SANITIZE_THREAD__
enum { HANDSHAKES_ARE_FOUND = 0 };

/* A program that ends without a thread that stands still has not joined the others either. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}
#else
enum { HANDSHAKES_ARE_FOUND = 1 };
#endif

static void a_worker_that_stands_still_ends_the_program(void)
{
    CHECK_EQ(status_of(stalled), EXIT_SYSTEM);
    if (HANDSHAKES_ARE_FOUND)
        CHECK_EQ(status_of(stalled_handshakes), EXIT_SYSTEM);
    CHECK_EQ(status_of(mail_for_a_stalled_worker), EXIT_SYSTEM);
    CHECK_EQ(status_of(stopped_as_a_whole), 0);
}

static void a_worker_that_stands_still_keeps_nobody_from_ending(void)
{
    CHECK_EQ(status_of(stop_with_a_stalled_worker), 5);
    if (HANDSHAKES_ARE_FOUND)
        CHECK_EQ(status_of(stop_with_a_stalled_handshake), 5);
    CHECK_EQ(status_of(mail_for_a_stalled_worker_when_erlang_ends), 0);
    CHECK_EQ(status_of(stop_with_workers_that_turn), 6);
}

/* With nothing to do too, so that it can be told from one that stands still. */
static void an_idle_worker_turns_every_second(void)
{
    start();
    uint64_t began = clock_read().now;
    while (c.workers[0].turned < began || c.workers[1].turned < began) {
        usleep(10000);
        if (clock_read().now > began + 60 * NS_PER_S)
            break;
    }
    c.time = clock_read();
    CHECK(c.workers[0].turned >= began && c.workers[1].turned >= began);
    while (handshakes_turned(c.limits.streams.handshakes) < began &&
           clock_read().now < began + 60 * NS_PER_S)
        usleep(10000);
    CHECK(handshakes_turned(c.limits.streams.handshakes) >= began);
    CHECK(stalls_age_ms(&c) < 60000);
    c.time.now += 100 * NS_PER_S;
    CHECK(stalls_age_ms(&c) >= 100000 - 60000);
    workers_stop(&c);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(a_worker_that_stands_still_ends_the_program);
    RUN(a_worker_that_stands_still_keeps_nobody_from_ending);
    RUN(an_idle_worker_turns_every_second);
    return test_end("stalls");
}
