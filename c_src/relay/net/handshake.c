#include "handshake.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "step.h"

enum {
    EVENTS = 64,
    READ_LEN = 16 * 1024, /* a ClientHello may be that long */
    NICE = 5,             /* packets first, where they share a processor */
    SLEEP_MAX_MS = 1000,  /* that it shows that it can turn (stalls.c) */
};

struct thread {
    struct handshakes *all;
    pthread_t id;
    int epoll_fd, wake_fd;
    _Atomic uint64_t turned; /* when its last turn began */
    struct posts handed, steps;
    struct list under_way;
    uint8_t in[READ_LEN];
    uint8_t out[TLS_FLIGHT_MAX];
};

struct handshakes {
    uint32_t max;
    uint64_t timeout_ns;
    _Atomic uint32_t under_way;
    _Atomic uint32_t turn; /* which thread is next */
    _Atomic bool stopping;
    unsigned n;
    struct thread threads[];
};

static void wake(struct thread *t)
{
    uint64_t one = 1;
    ssize_t ignored = write(t->wake_fd, &one, sizeof(one));
    (void)ignored; /* a full counter wakes as well */
}

/* --------------------------------------------------------------------------------------- bytes */

static void bytes_free(struct handshake_bytes *b)
{
    free(b->data);
    *b = (struct handshake_bytes){0};
}

/* Another piece of memory instead; without any, nothing is kept and false returned. */
static bool bytes_keep(struct handshake_bytes *b, const uint8_t *data, size_t len)
{
    uint8_t *copy = len ? malloc(len) : NULL;
    if (copy)
        memcpy(copy, data, len);
    free(b->data);
    *b = (struct handshake_bytes){copy, copy ? len : 0};
    return copy || len == 0;
}

/* ----------------------------------------------------------------------------------- one of them
 */

/* Home again: from here on it is not ours. */
static void send_home(struct thread *t, struct handshake *s, enum handshake_end end)
{
    struct handshake_home *home = s->home;
    epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    list_del(&s->under_way);
    bytes_free(&s->out);
    s->end = end;
    atomic_fetch_sub(&t->all->under_way, 1);
    if (posts_put(&home->arrived, &s->post))
        home->wake(home->ctx);
}

/* 0, or -errno; what the socket does not take is kept. */
static int send_some(struct handshake *s, const uint8_t *data, size_t len)
{
    ssize_t n = len ? send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    size_t sent = n > 0 ? (size_t)n : 0;
    return bytes_keep(&s->out, data + sent, len - sent) ? 0 : -ENOMEM;
}

/* With all that was read so far. True when it goes on here. */
static bool go_on(struct thread *t, struct handshake *s, struct bytes in)
{
    struct wbytes out = wbytes_of(t->out, sizeof(t->out));
    enum tls_result result = tls_handshake(s->tls, &in, &out);
    bool kept = bytes_keep(&s->in, in.p, bytes_left(&in));
    int ret = send_some(s, t->out, wbytes_len(&out));
    if (result == TLS_CLOSED || ret < 0 || !kept)
        send_home(t, s, HANDSHAKE_GONE);
    else if (result == TLS_FAILED)
        send_home(t, s, HANDSHAKE_FAILED);
    else if (result == TLS_OK && !s->out.len)
        send_home(t, s, HANDSHAKE_DONE);
    else
        return true;
    return false;
}

static void read_more(struct thread *t, struct handshake *s)
{
    ssize_t n;
    do {
        n = recv(s->fd, t->in, sizeof(t->in), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            send_home(t, s, HANDSHAKE_GONE);
            return;
        }
    } while (n > 0 && go_on(t, s, bytes_of(t->in, (size_t)n)));
}

/* What was left of a flight; behind the last one it is done. */
static void write_more(struct thread *t, struct handshake *s)
{
    struct handshake_bytes left = s->out;
    s->out = (struct handshake_bytes){0};
    int ret = send_some(s, left.data, left.len);
    free(left.data);
    if (ret < 0)
        send_home(t, s, HANDSHAKE_GONE);
    else if (!s->out.len)
        go_on(t, s, bytes_of(s->in.data, s->in.len));
}

static void begin(struct thread *t, struct handshake *s)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = s};
    list_add_tail(&t->under_way, &s->under_way);
    s->deadline = clock_read().now + t->all->timeout_ns;
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) != 0) {
        send_home(t, s, HANDSHAKE_GONE);
        return;
    }
    read_more(t, s);
}

/* ---------------------------------------------------------------------------------- the threads */

static void take_handed(struct thread *t)
{
    struct post *p = posts_take(&t->handed);
    while (p) {
        struct handshake *s = container_of(p, struct handshake, post);
        p = p->next;
        begin(t, s);
    }
}

static void take_steps(struct thread *t)
{
    struct post *p = posts_take(&t->steps);
    while (p) {
        struct step *s = container_of(p, struct step, post);
        struct handshake_home *home = s->home;
        p = p->next;
        step_take(s, t->out, sizeof(t->out));
        if (posts_put(&home->stepped, &s->post))
            home->wake(home->ctx);
    }
}

/* All have the same time, so the oldest is over first. How long until then, in ms. */
static int end_late(struct thread *t, uint64_t now)
{
    while (!list_empty(&t->under_way)) {
        struct handshake *s = container_of(t->under_way.next, struct handshake, under_way);
        if (s->deadline > now)
            return (int)MIN(clock_wait(s->deadline - now) / NS_PER_MS + 1, (uint64_t)SLEEP_MAX_MS);
        send_home(t, s, HANDSHAKE_LATE);
    }
    return SLEEP_MAX_MS;
}

static uint64_t turns(struct thread *t)
{
    uint64_t now = clock_read().now;
    atomic_store_explicit(&t->turned, now, memory_order_relaxed);
    return now;
}

static void *run(void *arg)
{
    struct thread *t = arg;
    struct epoll_event events[EVENTS];
    setpriority(PRIO_PROCESS, 0, NICE); /* of this thread alone, on Linux */
    while (!atomic_load(&t->all->stopping)) {
        int n = epoll_wait(t->epoll_fd, events, EVENTS, end_late(t, turns(t)));
        for (int i = 0; i < n; i++) {
            struct handshake *s = events[i].data.ptr; /* NULL: woken */
            if (s && s->out.len)
                write_more(t, s);
            else if (s)
                read_more(t, s);
        }
        take_handed(t);
        take_steps(t);
    }
    return NULL;
}

static bool start(struct handshakes *h, struct thread *t)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    t->all = h;
    atomic_init(&t->turned, clock_read().now);
    list_init(&t->under_way);
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->epoll_fd >= 0 && t->wake_fd >= 0 &&
        epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &e) == 0 &&
        pthread_create(&t->id, NULL, run, t) == 0)
        return true;
    if (t->epoll_fd >= 0)
        close(t->epoll_fd);
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    return false;
}

static void drop(struct handshake *s)
{
    close(s->fd);
    tls_free(s->tls);
    bytes_free(&s->in);
    bytes_free(&s->out);
    free(s);
}

static void clear(struct thread *t)
{
    take_handed(t);
    while (!list_empty(&t->under_way)) {
        struct handshake *s = container_of(t->under_way.next, struct handshake, under_way);
        list_del(&s->under_way);
        drop(s);
    }
    close(t->epoll_fd);
    close(t->wake_fd);
}

void handshakes_end(struct handshakes *h)
{
    atomic_store(&h->stopping, true);
    for (unsigned i = 0; i < h->n; i++)
        wake(&h->threads[i]);
}

bool handshakes_stop(struct handshakes *h, const struct timespec *until)
{
    handshakes_end(h);
    for (unsigned i = 0; i < h->n; i++)
        if (pthread_timedjoin_np(h->threads[i].id, NULL, until) != 0)
            return false;
    for (unsigned i = 0; i < h->n; i++)
        clear(&h->threads[i]);
    free(h);
    return true;
}

uint64_t handshakes_turned(struct handshakes *h)
{
    uint64_t oldest = UINT64_MAX;
    for (unsigned i = 0; i < h->n; i++)
        oldest = MIN(oldest, atomic_load_explicit(&h->threads[i].turned, memory_order_relaxed));
    return oldest;
}

/* Those that were started have nothing to do yet. */
static void give_up(struct handshakes *h)
{
    handshakes_end(h);
    for (unsigned i = 0; i < h->n; i++) {
        pthread_join(h->threads[i].id, NULL);
        clear(&h->threads[i]);
    }
    free(h);
}

struct handshakes *handshakes_start(unsigned threads, uint32_t max, uint64_t timeout_ns)
{
    struct handshakes *h = calloc(1, sizeof(*h) + threads * sizeof(h->threads[0]));
    if (!h)
        return NULL;
    h->max = max;
    h->timeout_ns = timeout_ns;
    while (h->n < threads && start(h, &h->threads[h->n]))
        h->n++;
    if (h->n == threads)
        return h;
    give_up(h);
    return NULL;
}

bool handshakes_enter(struct handshakes *h, unsigned *thread)
{
    *thread = atomic_fetch_add(&h->turn, 1) % h->n;
    if (atomic_fetch_add(&h->under_way, 1) < h->max)
        return true;
    handshakes_leave(h);
    return false;
}

void handshakes_leave(struct handshakes *h)
{
    atomic_fetch_sub(&h->under_way, 1);
}

bool handshakes_begin(struct handshakes *h, struct handshake *s, struct tls_store *store,
                      uint32_t wall_s)
{
    if (!handshakes_enter(h, &s->thread))
        return false;
    s->tls = tls_open(store, s->thread, wall_s);
    if (!s->tls) {
        handshakes_leave(h);
        return false;
    }
    struct thread *t = &h->threads[s->thread];
    if (posts_put(&t->handed, &s->post))
        wake(t);
    return true;
}

void handshakes_step(struct handshakes *h, struct step *s)
{
    struct thread *t = &h->threads[s->thread];
    if (posts_put(&t->steps, &s->post))
        wake(t);
}

uint32_t handshakes_under_way(struct handshakes *h)
{
    return atomic_load(&h->under_way);
}
