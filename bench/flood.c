/*
 * Sends unauthenticated Allocates in the name of many clients: COUNT of them to HOST:PORT, from
 * TUPLES different addresses and ports of 127.0.0.0/8, RATE a second (0: as fast as it goes). Or
 * COUNT times a payload in the name of one, 127.0.0.1:TUPLES; what is a STUN message has another
 * transaction each time.
 *
 *     flood HOST PORT COUNT TUPLES RATE [HEX]
 *
 * The datagrams are made whole, headers and all, and sent by a raw socket: root is needed. HOST is
 * an address of 127.0.0.0/8 too, for nothing else believes such a source. Prints how many were
 * sent, and in how many seconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, IP_LEN = 20, UDP_LEN = 8, STUN_LEN = 28, STUN_MIN = 20, PAYLOAD_MAX = 512 };

static uint8_t payload[PAYLOAD_MAX] = {
    0,
    3,
    0,
    STUN_LEN - STUN_MIN,
    0x21,
    0x12,
    0xa4,
    0x42, /* Allocate */
    [STUN_MIN] = 0,
    0x19,
    0,
    4,
    17, /* REQUESTED-TRANSPORT: UDP */
};
static unsigned payload_len = STUN_LEN;
static bool given; /* by the command line */
static uint8_t packets[BATCH][IP_LEN + UDP_LEN + PAYLOAD_MAX];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];
static struct sockaddr_in to;

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

/* All that is the same in each: the kernel fills in the checksum of IP, and UDP has none. */
static void prepare(void)
{
    for (int i = 0; i < BATCH; i++) {
        uint8_t *ip = packets[i], *udp = ip + IP_LEN;
        ip[0] = 0x45;
        put16(ip + 2, IP_LEN + UDP_LEN + payload_len);
        ip[8] = 64;
        ip[9] = IPPROTO_UDP;
        memcpy(ip + 16, &to.sin_addr, 4);
        memcpy(udp + 2, &to.sin_port, 2);
        put16(udp + 4, UDP_LEN + payload_len);
        memcpy(udp + UDP_LEN, payload, payload_len);
        parts[i] = (struct iovec){packets[i], IP_LEN + UDP_LEN + payload_len};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &parts[i], .msg_iovlen = 1};
    }
}

/* The nth datagram: a hundred ports for each address, addresses from 127.16.0.0 on. */
static void address(uint8_t *packet, uint64_t n, uint64_t tuples)
{
    uint64_t tuple = n % tuples;
    put32(packet + 12, given ? 0x7f000001u : 0x7f100000u + (uint32_t)(tuple / 100));
    put16(packet + IP_LEN, given ? (unsigned)tuples : 10000 + (unsigned)(tuple % 100));
    if (payload_len < STUN_MIN || payload[0] > 3)
        return;
    put32(packet + IP_LEN + UDP_LEN + 8, (uint32_t)(n >> 32));
    put32(packet + IP_LEN + UDP_LEN + 12, (uint32_t)n);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_until(double when)
{
    double left = when - now();
    if (left <= 0)
        return;
    struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    nanosleep(&t, NULL);
}

static int send_all(int fd, uint64_t count, uint64_t tuples, double rate)
{
    double start = now();
    for (uint64_t sent = 0; sent < count;) {
        unsigned n = count - sent < BATCH ? (unsigned)(count - sent) : BATCH;
        for (unsigned i = 0; i < n; i++)
            address(packets[i], sent + i, tuples);
        if (rate > 0)
            wait_until(start + (double)sent / rate);
        for (unsigned done = 0; done < n;) {
            int ret = sendmmsg(fd, messages + done, n - done, 0);
            if (ret < 0 && errno != ENOBUFS && errno != EAGAIN)
                return -1;
            done += ret > 0 ? (unsigned)ret : 0;
        }
        sent += n;
    }
    printf("%llu sent in %.3f s\n", (unsigned long long)count, now() - start);
    return 0;
}

static bool read_payload(const char *hex)
{
    size_t len = strlen(hex);
    given = true;
    payload_len = (unsigned)(len / 2);
    if (len % 2 || payload_len > PAYLOAD_MAX)
        return false;
    for (unsigned i = 0; i < payload_len; i++)
        if (sscanf(hex + 2 * (size_t)i, "%2hhx", &payload[i]) != 1)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if ((argc != 6 && argc != 7) || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 ||
        atoll(argv[4]) < 1 || (argc == 7 && !read_payload(argv[6]))) {
        fprintf(stderr, "usage: flood HOST PORT COUNT TUPLES RATE [HEX]\n");
        return 2;
    }
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)atoi(argv[2]));
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (fd < 0) {
        perror("flood: raw socket");
        return 1;
    }
    prepare();
    if (send_all(fd, (uint64_t)atoll(argv[3]), (uint64_t)atoll(argv[4]), atof(argv[5])) != 0) {
        perror("flood: send");
        return 1;
    }
    return 0;
}
