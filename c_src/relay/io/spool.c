#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    EVERY_MS = 10,
    NICE = 5, /* packets first */
    PATH_LEN = 4096,
};

struct spool {
    char path[PATH_LEN];
    uint64_t added;             /* of whoever adds; committed so far and not yet */
    _Atomic uint64_t committed; /* bytes since the start, as all here */
    _Atomic uint64_t written;
    _Atomic int error;
    _Atomic bool over;
    uint8_t ring[SPOOL_SIZE];
};

/* -------------------------------------------------------------------------------- of the thread */

/* One piece of what is committed, up to the end of the ring. */
static ssize_t write_piece(struct spool *s, int fd, uint64_t committed)
{
    uint64_t from = atomic_load_explicit(&s->written, memory_order_relaxed);
    size_t at = from % SPOOL_SIZE;
    size_t len = MIN((size_t)(committed - from), SPOOL_SIZE - at);
    ssize_t n = write(fd, s->ring + at, len);
    if (n > 0)
        atomic_store_explicit(&s->written, from + (uint64_t)n, memory_order_release);
    return n;
}

/* False once the file does not take it. */
static bool write_committed(struct spool *s, int fd)
{
    uint64_t committed = atomic_load_explicit(&s->committed, memory_order_acquire);
    while (atomic_load_explicit(&s->written, memory_order_relaxed) != committed) {
        if (write_piece(s, fd, committed) < 0 && errno != EINTR) {
            atomic_store_explicit(&s->error, errno, memory_order_relaxed);
            return false;
        }
    }
    return true;
}

static void *run(void *arg)
{
    struct spool *s = arg;
    const struct timespec pause = {.tv_nsec = EVERY_MS * 1000000L};
    prctl(PR_SET_NAME, "meerkat_spool");
    setpriority(PRIO_PROCESS, 0, NICE);
    int fd = open(s->path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        atomic_store_explicit(&s->error, errno, memory_order_relaxed);
    bool good = fd >= 0, over;
    do {
        over = atomic_load_explicit(&s->over, memory_order_acquire);
        good = good && write_committed(s, fd);
        if (!over)
            nanosleep(&pause, NULL);
    } while (!over);
    if (fd >= 0)
        close(fd);
    free(s);
    return NULL;
}

struct spool *spool_start(const char *path)
{
    pthread_attr_t attr;
    pthread_t id;
    struct spool *s = strlen(path) < PATH_LEN ? calloc(1, sizeof(*s)) : NULL;
    if (!s)
        return NULL;
    strcpy(s->path, path);
    bool started = pthread_attr_init(&attr) == 0;
    if (started) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        started = pthread_create(&id, &attr, run, s) == 0;
        pthread_attr_destroy(&attr);
    }
    if (!started) {
        free(s);
        return NULL;
    }
    return s;
}

/* ------------------------------------------------------------------------------ of whoever adds */

bool spool_has_room(const struct spool *s, size_t len)
{
    uint64_t waiting = s->added - atomic_load_explicit(&s->written, memory_order_acquire);
    return len <= SPOOL_SIZE - waiting;
}

void spool_add(struct spool *s, const void *data, size_t len)
{
    size_t at = s->added % SPOOL_SIZE, first = MIN(len, SPOOL_SIZE - at);
    if (first)
        memcpy(s->ring + at, data, first);
    if (len > first)
        memcpy(s->ring, (const uint8_t *)data + first, len - first);
    s->added += len;
}

void spool_commit(struct spool *s)
{
    atomic_store_explicit(&s->committed, s->added, memory_order_release);
}

int spool_error(const struct spool *s)
{
    return atomic_load_explicit(&s->error, memory_order_relaxed);
}

void spool_end(struct spool *s)
{
    atomic_store_explicit(&s->over, true, memory_order_release);
}
