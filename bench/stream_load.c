/*
 * Clients over TCP and TLS against a TURN server, and what they cost it.
 *
 *   stream_load packets     FLOWS clients with a channel each to a peer here: a burst of each is
 *                           always under way, to the clients (--direction down) or from them (up)
 *   stream_load idle        user memory of a connection after one Binding
 *   stream_load handshakes  connections one after the other, each with one Binding; with --rate so
 *                           many a second
 *   stream_load video       one client gets frames of 8 packets, 30 a second, 2 Mbit/s: how old
 *                           they are, and how many come whole
 *
 * --server IP:PORT, --tls, --user, --password, --server-pid PID,..., --seconds, --flows, --payload,
 * --burst, --netns NAME (where the client's sockets are, video).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "histogram.h"
#include "procfs.h"
#include "report.h"
#include "stream.h"

enum {
    FLOWS_MAX = 4096,
    BURST_MAX = 64,
    PAYLOAD_MAX = 1400,
    EVENTS = 64,
    LATE_NS = 200000000, /* a burst that is not whole by then is lost */
    FRAME_PACKETS = 8,
    FRAME_NS = 1000000000 / 30,
    VIDEO_PAYLOAD = 1042, /* 30 frames of 8: 2 Mbit/s */
    FRAMES_MAX = 30 * 600,
};

struct load {
    struct addr server;
    bool is_tls, is_up;
    unsigned flows, payload, burst, rate;
    double seconds;
    const char *netns;
    int pids[PIDS_MAX];
    unsigned pid_count;
    struct turn_login login;
    SSL_CTX *tls;
    int peer; /* UDP socket */
    struct addr peer_addr;
    struct stream *streams;
};

static const enum turn_step up[] = {STEP_ALLOCATE, STEP_CHANNEL, STEPS};

static void fail(const char *what)
{
    fprintf(stderr, "stream_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void enter(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        fail(path);
    close(fd);
}

/* Opened where --netns says. */
static bool open_stream(const struct load *l, struct stream *s)
{
    char path[128];
    if (l->netns) {
        snprintf(path, sizeof(path), "/run/netns/%s", l->netns);
        int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        enter(path);
        bool ok = stream_open(s, &l->server, l->tls);
        if (home < 0 || setns(home, CLONE_NEWNET) != 0)
            fail("back to the own network");
        close(home);
        return ok;
    }
    return stream_open(s, &l->server, l->tls);
}

static void open_peer(struct load *l)
{
    struct sockaddr_storage ss;
    struct addr local = l->server;
    local.port = 0;
    socklen_t len = addr_to_sockaddr(&local, &ss);
    int size = 32 << 20;
    l->peer = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->peer < 0 || bind(l->peer, (struct sockaddr *)&ss, len) != 0)
        fail("the peer's socket");
    setsockopt(l->peer, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    setsockopt(l->peer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    len = sizeof(ss);
    getsockname(l->peer, (struct sockaddr *)&ss, &len);
    addr_from_sockaddr(&l->peer_addr, (struct sockaddr *)&ss, len);
}

static void allocate(struct load *l, unsigned i)
{
    struct stream *s = &l->streams[i];
    char text[64];
    s->turn.index = i;
    if (!open_stream(l, s))
        fail("connect");
    int outcome = stream_plan(s, &l->login, up, &l->peer_addr);
    if (outcome != TURN_WELL) {
        fprintf(stderr, "stream_load: %s\n", turn_code_text(outcome, text, sizeof(text)));
        exit(1);
    }
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

/* ------------------------------------------------------------------------------------- packets */

struct flow {
    unsigned got;  /* of the burst under way */
    uint64_t sent; /* when it was */
};

struct traffic {
    struct load *l;
    struct flow flows[FLOWS_MAX];
    uint16_t flow_of[65536]; /* by the relayed port; 0: none, else one more */
    uint64_t delivered, lost;
};

/* In one call and one run, as the card of a busy peer has it (UDP_SEGMENT). */
static void send_run(const struct load *l, const struct addr *to)
{
    static uint8_t payload[BURST_MAX * PAYLOAD_MAX];
    struct sockaddr_storage ss;
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control = {0};
    struct iovec iov = {payload, (size_t)l->burst * l->payload};
    struct msghdr m = {.msg_name = &ss, .msg_iov = &iov, .msg_iovlen = 1};
    uint16_t size = (uint16_t)l->payload;
    m.msg_namelen = addr_to_sockaddr(to, &ss);
    if (l->burst > 1) {
        m.msg_control = &control;
        m.msg_controllen = sizeof(control);
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(size)), SOL_UDP, UDP_SEGMENT};
        memcpy(CMSG_DATA(&control.header), &size, sizeof(size));
    }
    while (sendmsg(l->peer, &m, 0) < 0)
        if (errno != EAGAIN && errno != EINTR)
            fail("sendmsg");
}

/* As one write, and over TLS one record. */
static void write_frames(const struct load *l, struct stream *s)
{
    static uint8_t frames[BURST_MAX * (4 + PAYLOAD_MAX)];
    size_t size = 4 + l->payload + frame_padding(l->payload);
    for (unsigned k = 0; k < l->burst; k++) {
        store16(frames + k * size, 0x4000);
        store16(frames + k * size + 2, (uint16_t)l->payload);
    }
    if (!stream_write(s, frames, l->burst * size))
        fail("write");
}

static void send_burst(struct traffic *t, unsigned i, uint64_t now)
{
    struct stream *s = &t->l->streams[i];
    t->flows[i] = (struct flow){.sent = now};
    if (t->l->is_up)
        write_frames(t->l, s);
    else
        send_run(t->l, &s->turn.relayed);
}

static void arrived(struct traffic *t, unsigned i, uint64_t now)
{
    t->delivered++;
    if (++t->flows[i].got == t->l->burst)
        send_burst(t, i, now);
}

static void from_stream(struct traffic *t, unsigned i)
{
    struct stream *s = &t->l->streams[i];
    const uint8_t *data;
    struct frame frame;
    int more;
    while ((more = stream_fill(s)) > 0)
        while (stream_next(s, &data, &frame))
            if (data[0] >= 0x40)
                arrived(t, i, now_ns());
    if (more < 0)
        fail("a connection was closed");
}

static void from_relay(struct traffic *t)
{
    static uint8_t payloads[EVENTS][PAYLOAD_MAX];
    struct sockaddr_in from[EVENTS];
    struct iovec iov[EVENTS];
    struct mmsghdr all[EVENTS];
    int n;
    do {
        memset(all, 0, sizeof(all));
        for (unsigned k = 0; k < EVENTS; k++) {
            iov[k] = (struct iovec){payloads[k], PAYLOAD_MAX};
            all[k].msg_hdr = (struct msghdr){.msg_name = &from[k],
                                             .msg_namelen = sizeof(from[k]),
                                             .msg_iov = &iov[k],
                                             .msg_iovlen = 1};
        }
        n = recvmmsg(t->l->peer, all, EVENTS, 0, NULL);
        for (int k = 0; k < n; k++) {
            unsigned flow = t->flow_of[ntohs(from[k].sin_port)];
            if (flow)
                arrived(t, flow - 1, now_ns());
        }
    } while (n == EVENTS);
}

static void run(struct traffic *t, int epoll, uint64_t until)
{
    struct epoll_event events[EVENTS];
    uint64_t look = 0;
    for (uint64_t now = now_ns(); now < until; now = now_ns()) {
        int n = epoll_wait(epoll, events, EVENTS, 10);
        for (int k = 0; k < n; k++)
            if (events[k].data.u32 == FLOWS_MAX)
                from_relay(t);
            else
                from_stream(t, events[k].data.u32);
        for (unsigned i = 0; now >= look && i < t->l->flows; i++)
            if (now - t->flows[i].sent > LATE_NS) {
                t->lost += t->l->burst - t->flows[i].got;
                send_burst(t, i, now);
            }
        look = now >= look ? now + LATE_NS / 4 : look;
    }
}

static void watch(int epoll, int fd, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll");
}

static void packets(struct load *l, struct report *r)
{
    static struct traffic t;
    struct procfs_cpu before, after;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    t.l = l;
    for (unsigned i = 0; i < l->flows; i++) {
        allocate(l, i);
        t.flow_of[l->streams[i].turn.relayed.port] = (uint16_t)(i + 1);
        watch(epoll, l->streams[i].fd, i);
    }
    watch(epoll, l->peer, FLOWS_MAX);
    for (unsigned i = 0; i < l->flows; i++)
        send_burst(&t, i, now_ns());
    run(&t, epoll, now_ns() + 300000000);
    procfs_cpu(&before, l->pids, l->pid_count);
    uint64_t delivered = t.delivered, lost = t.lost, began = now_ns();
    run(&t, epoll, began + (uint64_t)(l->seconds * 1e9));
    procfs_cpu(&after, l->pids, l->pid_count);
    procfs_cpu_since(&after, &before);
    double n = (double)(t.delivered - delivered), took = (double)(now_ns() - began) / 1e9;
    report_figure(r, "packets_per_s", true, 0, n / took);
    report_figure(r, "packets_per_cpu_s", after.server_ns > 0, 0,
                  n * 1e9 / (double)after.server_ns);
    report_figure(r, "server_ns_per_packet", n > 0, 0, (double)after.server_ns / n);
    report_figure(r, "lost", true, 0, (double)(t.lost - lost));
}

/* ---------------------------------------------------------------------------------------- idle */

/* A tenth of them first: what a server takes at once for many is no part of one. */
static void idle(struct load *l, struct report *r)
{
    struct procfs_memory before, after;
    unsigned first = l->flows / 10;
    for (unsigned i = 0; i < l->flows; i++) {
        if (i == first)
            procfs_memory(&before, l->pids, l->pid_count);
        if (!open_stream(l, &l->streams[i]) || !stream_binding(&l->streams[i]))
            fail("a connection");
    }
    procfs_memory(&after, l->pids, l->pid_count);
    double kb = (double)after.rss_kb - (double)before.rss_kb;
    report_figure(r, "rss_bytes_per_connection", true, 0, kb * 1024 / (l->flows - first));
}

/* ---------------------------------------------------------------------------------- handshakes */

static void handshakes(struct load *l, struct report *r)
{
    struct procfs_cpu before, after;
    struct stream *s = &l->streams[0];
    uint64_t began = now_ns(), until = began + (uint64_t)(l->seconds * 1e9);
    unsigned n = 0;
    procfs_cpu(&before, l->pids, l->pid_count);
    for (; now_ns() < until; n++) {
        uint64_t due = l->rate ? began + n * 1000000000ull / l->rate : 0, now = now_ns();
        if (due > now)
            nanosleep(&(struct timespec){.tv_nsec = (long)(due - now)}, NULL);
        if (!open_stream(l, s) || !stream_binding(s))
            fail("a connection");
        stream_close(s);
    }
    procfs_cpu(&after, l->pids, l->pid_count);
    procfs_cpu_since(&after, &before);
    report_figure(r, "handshakes_per_s", true, 0, n * 1e9 / (double)(now_ns() - began));
    report_figure(r, "handshakes_per_cpu_s", after.server_ns > 0, 0,
                  n * 1e9 / (double)after.server_ns);
}

/* --------------------------------------------------------------------------------------- video */

struct film {
    struct histogram age;
    uint64_t least;
    uint8_t parts[FRAMES_MAX];
    uint64_t packets;
};

static void send_frame(const struct load *l, uint32_t number)
{
    struct sockaddr_storage ss;
    uint8_t packet[VIDEO_PAYLOAD] = {0};
    socklen_t len = addr_to_sockaddr(&l->streams[0].turn.relayed, &ss);
    for (unsigned k = 0; k < FRAME_PACKETS; k++) {
        store32(packet, number);
        store64(packet + 4, now_ns());
        sendto(l->peer, packet, sizeof(packet), 0, (struct sockaddr *)&ss, len);
    }
}

static void show(struct load *l, struct film *film)
{
    struct stream *s = &l->streams[0];
    const uint8_t *data;
    struct frame frame;
    int more;
    while ((more = stream_fill(s)) > 0)
        while (stream_next(s, &data, &frame)) {
            if (data[0] < 0x40 || frame.len < 16)
                continue;
            uint64_t age = now_ns() - load64(data + 8);
            film->least = MIN(film->least, age);
            histogram_add(&film->age, age);
            film->packets++;
            if (load32(data + 4) < FRAMES_MAX)
                film->parts[load32(data + 4)]++;
        }
    if (more < 0)
        fail("the connection was closed");
}

static void video(struct load *l, struct report *r)
{
    static struct film film = {.least = UINT64_MAX};
    allocate(l, 0);
    uint64_t began = now_ns();
    unsigned frames = (unsigned)(l->seconds * 30), sent = 0, whole = 0;
    uint64_t end = began + (uint64_t)frames * FRAME_NS + 2000000000;
    for (uint64_t now = began; now < end; now = now_ns()) {
        uint64_t due = began + (uint64_t)sent * FRAME_NS;
        if (sent < frames && now >= due)
            send_frame(l, sent++);
        uint64_t next = sent < frames ? began + (uint64_t)sent * FRAME_NS : end;
        struct pollfd fd = {.fd = l->streams[0].fd, .events = POLLIN};
        now = now_ns();
        poll(&fd, 1, next > now ? (int)((next - now) / 1000000) + 1 : 0);
        show(l, &film);
    }
    for (unsigned i = 0; i < frames; i++)
        whole += film.parts[i] == FRAME_PACKETS;
    report_figure(r, "frames", true, 0, frames);
    report_figure(r, "frames_whole", true, 0, whole);
    report_figure(r, "packets_percent", true, 1,
                  100.0 * (double)film.packets / (frames * FRAME_PACKETS));
    report_figure(r, "age_p50_ms", true, 1, (double)histogram_percentile(&film.age, 0.5) / 1e6);
    report_figure(r, "age_p99_ms", true, 1, (double)histogram_percentile(&film.age, 0.99) / 1e6);
    report_figure(r, "queue_p99_ms", true, 1,
                  (double)(histogram_percentile(&film.age, 0.99) - film.least) / 1e6);
}

/* ------------------------------------------------------------------------------------- options */

static const struct {
    const char *name;
    void (*run)(struct load *l, struct report *r);
} modes[] = {{"packets", packets}, {"idle", idle}, {"handshakes", handshakes}, {"video", video}};

static void usage(void)
{
    fprintf(stderr, "usage: stream_load packets|idle|handshakes|video --server IP:PORT [--tls] "
                    "[--user U] [--password P] [--server-pid PID,...] [--seconds S] [--flows N] "
                    "[--payload N] [--burst N] [--direction up|down] [--rate N] [--netns NAME]\n");
    exit(2);
}

static void take_server(struct load *l, char *text)
{
    char *colon = strrchr(text, ':');
    if (!colon)
        usage();
    *colon = '\0';
    if (!addr_parse(&l->server, text, (uint16_t)atoi(colon + 1)))
        usage();
}

static void take_pids(struct load *l, char *text)
{
    for (char *p = strtok(text, ","); p && l->pid_count < PIDS_MAX; p = strtok(NULL, ","))
        l->pids[l->pid_count++] = atoi(p);
}

static void options(struct load *l, int argc, char **argv)
{
    static const struct option known[] = {
        {"server", 1, 0, 's'},     {"tls", 0, 0, 't'},
        {"user", 1, 0, 'u'},       {"password", 1, 0, 'w'},
        {"server-pid", 1, 0, 'p'}, {"seconds", 1, 0, 'd'},
        {"flows", 1, 0, 'f'},      {"payload", 1, 0, 'l'},
        {"burst", 1, 0, 'b'},      {"direction", 1, 0, 'y'},
        {"rate", 1, 0, 'r'},       {"netns", 1, 0, 'n'},
        {"cpu", 1, 0, 'c'},        {0, 0, 0, 0},
    };
    cpu_set_t set;
    for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (o) {
        case 's':
            take_server(l, optarg);
            break;
        case 't':
            l->is_tls = true;
            break;
        case 'u':
            l->login.user = optarg;
            break;
        case 'w':
            l->login.password = optarg;
            break;
        case 'p':
            take_pids(l, optarg);
            break;
        case 'd':
            l->seconds = atof(optarg);
            break;
        case 'f':
            l->flows = (unsigned)atoi(optarg);
            break;
        case 'l':
            l->payload = (unsigned)atoi(optarg);
            break;
        case 'b':
            l->burst = (unsigned)atoi(optarg);
            break;
        case 'y':
            l->is_up = strcmp(optarg, "up") == 0;
            break;
        case 'r':
            l->rate = (unsigned)atoi(optarg);
            break;
        case 'n':
            l->netns = optarg;
            break;
        case 'c':
            CPU_ZERO(&set);
            CPU_SET((size_t)atoi(optarg), &set);
            sched_setaffinity(0, sizeof(set), &set);
            break;
        default:
            usage();
        }
    if (l->server.family == ADDR_NONE || l->flows == 0 || l->flows >= FLOWS_MAX || l->burst == 0 ||
        l->burst > BURST_MAX || l->payload == 0 || l->payload > PAYLOAD_MAX ||
        l->burst * l->payload > 65000)
        usage();
}

int main(int argc, char **argv)
{
    static struct load l = {.flows = 100,
                            .payload = 160,
                            .burst = 1,
                            .seconds = 1,
                            .login = {.user = "bench", .password = "bench-password"}};
    static struct report r;
    options(&l, argc, argv);
    if (optind + 1 != argc)
        usage();
    l.tls = l.is_tls ? stream_tls() : NULL;
    l.streams = calloc(l.flows, sizeof(*l.streams));
    if (!l.streams)
        fail("memory");
    open_peer(&l);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
        if (strcmp(modes[i].name, argv[optind]) == 0) {
            modes[i].run(&l, &r);
            report_table(&r);
            return 0;
        }
    usage();
}
