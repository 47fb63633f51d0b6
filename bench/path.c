/*
 * A path between two network namespaces that takes time and loses packets, for kernels without
 * netem: a tun device in each, and this program between them.
 *
 *   path NETNS DELAY_MS LOSS_PERCENT
 *
 * The devices are called path0, here and in NETNS (below /run/netns); whoever starts it gives them
 * addresses. Each packet is as late as DELAY_MS, and as many of a hundred are lost, both ways. Runs
 * until it is ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKETS = 4096, BYTES = 2048 };

/* Packets under way to one end, in their order. */
struct way {
    int to;
    unsigned first, count;
    struct {
        uint64_t due;
        uint16_t len;
        uint8_t bytes[BYTES];
    } packet[PACKETS];
};

static void fail(const char *what)
{
    fprintf(stderr, "path: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int open_tun(void)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "path0"};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        fail("a tun device");
    return fd;
}

static void take(struct way *w, int from, uint64_t delay, unsigned loss)
{
    uint8_t bytes[BYTES];
    ssize_t n;
    while ((n = read(from, bytes, sizeof(bytes))) > 0) {
        if ((unsigned)(random() % 100) < loss || w->count == PACKETS)
            continue;
        unsigned at = (w->first + w->count++) % PACKETS;
        w->packet[at].due = now_ns() + delay;
        w->packet[at].len = (uint16_t)n;
        memcpy(w->packet[at].bytes, bytes, (size_t)n);
    }
}

/* When the next is due. */
static uint64_t pass(struct way *w)
{
    while (w->count > 0 && w->packet[w->first].due <= now_ns()) {
        if (write(w->to, w->packet[w->first].bytes, w->packet[w->first].len) < 0 && errno != EIO)
            fail("write");
        w->first = (w->first + 1) % PACKETS;
        w->count--;
    }
    return w->count > 0 ? w->packet[w->first].due : UINT64_MAX;
}

int main(int argc, char **argv)
{
    static struct way there, back;
    char name[256];
    if (argc != 4) {
        fprintf(stderr, "usage: path NETNS DELAY_MS LOSS_PERCENT\n");
        return 2;
    }
    uint64_t delay = strtoull(argv[2], NULL, 10) * 1000000;
    unsigned loss = (unsigned)atoi(argv[3]);
    int here = open_tun();
    snprintf(name, sizeof(name), "/run/netns/%s", argv[1]);
    int ns = open(name, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0)
        fail(name);
    int far = open_tun();
    there.to = far;
    back.to = here;
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[2] = {{.fd = here, .events = POLLIN}, {.fd = far, .events = POLLIN}};
        uint64_t a = pass(&there), b = pass(&back), next = a < b ? a : b, now = now_ns();
        struct timespec wait = {.tv_nsec = next > now ? (long)(next - now) : 0};
        if (wait.tv_nsec > 500000000)
            wait.tv_nsec = 500000000;
        ppoll(fds, 2, &wait, NULL);
        take(&there, here, delay, loss);
        take(&back, far, delay, loss);
    }
}
