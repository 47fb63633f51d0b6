/*
 * Capturing: what a worker writes of a session as pcapng, that it is bounded, that it never waits,
 * and that the file is known to be whole.
 */
#include "capturing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "relay_kit.h"
#include "test.h"

/* Each names the checks that follow. */
#define RUN(f) (test_begin(#f), f())

enum { ID = 7, HEAD = 16, NUMBER = 0x4001, RTP = 12, PAYLOAD = 160 };

static struct kit k;
static char path[64];
static uint8_t file[16 << 20];
static size_t file_len;

static void make_file(void)
{
    strcpy(path, "/tmp/meerkat_capture_XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, "0123456789abcdef", HEAD), HEAD); /* what stands before the packets */
    close(fd);
}

/* Until it ends with statistics. */
static void read_file(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    do {
        nanosleep(&pause, NULL);
        int fd = open(path, O_RDONLY);
        file_len = (size_t)read(fd, file, sizeof(file));
        close(fd);
    } while (file_len < HEAD + 40 || load32(file + file_len - 40) != 5 ||
             load32(file + file_len - 4) != 40);
}

/* The next block from *at on; its type. */
static uint32_t block(size_t *at, const uint8_t **body)
{
    CHECK(*at + 12 <= file_len);
    uint32_t len = load32(file + *at + 4);
    CHECK(len % 4 == 0 && *at + len <= file_len);
    CHECK_EQ(load32(file + *at + len - 4), len);
    *body = file + *at + 8;
    uint32_t type = load32(file + *at);
    *at += len;
    return type;
}

static uint16_t capture(uint32_t ms, uint64_t most, bool payload, const char *to,
                        struct ctl_frame *out)
{
    struct ctl_frame f = {.code = CTL_CAPTURE,
                          .u.capture = {.session = ID,
                                        .lifetime_ms = ms,
                                        .payload = payload,
                                        .bytes = HEAD,
                                        .bytes_max = most,
                                        .path = ctl_bytes_of(to, strlen(to))}};
    kit_command(&k, &f);
    CHECK(kit_frame(&k, out));
    return out->code == CTL_REPLY ? out->u.reply.status : CTL_OK;
}

static struct session *start(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, NUMBER, &k.peer, 600000, 300000), CTL_OK);
    make_file();
    return s;
}

static void end(void)
{
    kit_stop(&k);
    unlink(path);
}

static void rtp(uint8_t *p)
{
    memset(p, 0x55, RTP + PAYLOAD);
    store32(p, 0x80000001);
    store32(p + 4, 1);
    store32(p + 8, 0xabc);
}

static void both_ways(struct session *s)
{
    uint8_t packet[4 + RTP + PAYLOAD];
    rtp(packet + 4);
    channel_put_header(packet + 4, NUMBER, RTP + PAYLOAD);
    kit_from_client(&k, packet, sizeof(packet));
    rtp(packet);
    kit_from_peer(&k, &s->relayed[0], &k.peer, packet, RTP + PAYLOAD);
}

/* interface, length kept, length; of the packet what is behind IP and UDP. */
static void is_packet(size_t *at, uint32_t interface, size_t kept, size_t len, const uint8_t **data)
{
    const uint8_t *b;
    CHECK_EQ(block(at, &b), 6);
    CHECK_EQ(load32(b), interface);
    CHECK_EQ(load32(b + 12), 28 + kept);
    CHECK_EQ(load32(b + 16), 28 + len);
    CHECK_EQ(b[20], 0x45);
    CHECK_EQ(load16(b + 22), 28 + len);
    *data = b + 20 + 28;
}

static void writes(bool payload)
{
    struct ctl_frame f;
    struct session *s = start();
    size_t kept = RTP + (payload ? PAYLOAD : 0), len = RTP + PAYLOAD, at = HEAD;
    const uint8_t *b;
    both_ways(s);
    CHECK(!s->detour);
    CHECK_EQ(capture(0, 1 << 20, payload, "", &f), CTL_REFUSED);
    CHECK_EQ(capture(1000, 1 << 20, payload, path, &f), CTL_OK);
    CHECK_EQ(capture(1000, 1 << 20, payload, path, &f), CTL_CONFLICT);
    CHECK(s->look && s->look->capture);
    both_ways(s);
    CHECK_EQ(capture(1000, 0, false, "", &f), CTL_OK); /* goes on, and says how it is */
    CHECK_EQ(f.u.captured.packets, 4);
    CHECK_EQ(f.u.captured.missed, 0);
    CHECK_EQ(f.u.captured.error, 0);
    uint64_t bytes = f.u.captured.bytes;
    CHECK_EQ(capture(0, 0, false, "", &f), CTL_OK);
    CHECK(!s->look->capture);
    CHECK_EQ(k.worker.shard.sessions.captures, 0);
    read_file();
    CHECK_EQ(file_len, bytes + 40);

    is_packet(&at, CAPTURE_CLIENT, 4 + kept, 4 + len, &b);
    CHECK_EQ(load16(b), NUMBER);
    CHECK_EQ(load32(b + 12), 0xabc);
    is_packet(&at, CAPTURE_PEER, kept, len, &b);
    CHECK_EQ(load32(b + 8), 0xabc);
    is_packet(&at, CAPTURE_PEER, kept, len, &b);
    is_packet(&at, CAPTURE_CLIENT, 4 + kept, 4 + len, &b);
    CHECK_EQ(load16(b + 2), len);
    CHECK_EQ(block(&at, &b), 5);
    CHECK_EQ(load64(b + 16), 0);
    CHECK_EQ(at, file_len);
    bool silent = true;
    for (size_t i = HEAD; i < file_len; i++)
        silent = silent && file[i] != 0x55;
    CHECK_EQ(silent, !payload);
    end();
}

static void headers_only(void)
{
    writes(false);
}

static void with_payload(void)
{
    writes(true);
}

static void has_a_size(void)
{
    struct ctl_frame f;
    struct session *s = start();
    CHECK_EQ(capture(1000, 1000, false, path, &f), CTL_OK);
    for (int i = 0; i < 10; i++)
        both_ways(s);
    CHECK_EQ(capture(0, 0, false, "", &f), CTL_OK);
    CHECK(f.u.captured.full);
    CHECK(f.u.captured.packets > 0 && f.u.captured.packets < 20);
    read_file();
    CHECK(file_len <= 1000);
    end();
}

/* However fast packets come: what has no room is missing, and the relay goes on. */
static void never_waits(void)
{
    struct ctl_frame f;
    struct session *s = start();
    struct addr peer = k.peer;
    static const uint8_t data[1024];
    const struct capture_packet p = {.side = CAPTURE_PEER,
                                     .from = &peer,
                                     .to = &peer,
                                     .data = data,
                                     .len = sizeof(data),
                                     .kept = sizeof(data),
                                     .comment = ""};
    uint64_t sent = 0;
    CHECK_EQ(capture(1000, 1ull << 32, true, path, &f), CTL_OK);
    while (s->look->capture->missed == 0 && sent < 10 * SPOOL_SIZE / sizeof(data)) {
        capture_put(s->look->capture, &p);
        sent++;
    }
    CHECK_EQ(capture(0, 0, false, "", &f), CTL_OK);
    CHECK_EQ(f.u.captured.missed, 1);
    CHECK_EQ(f.u.captured.packets, sent - 1);
    read_file();
    CHECK_EQ(load64(file + file_len - 40 + 24), 1);
    end();
}

/* The end of the session, of whoever captured, and a file that cannot be written. */
static void ends_by_itself(void)
{
    struct ctl_frame f;
    struct session *s = start();
    CHECK_EQ(capture(1000, 1 << 20, false, path, &f), CTL_OK);
    kit_turn(&k, 1500);
    both_ways(s);
    CHECK(!s->look || !s->look->capture);
    read_file();
    CHECK_EQ(file_len, HEAD + 40);

    CHECK_EQ(capture(1000, 1 << 20, false, "/nowhere/x", &f), CTL_OK);
    const struct timespec pause = {.tv_nsec = 1000000};
    do {
        nanosleep(&pause, NULL);
        CHECK_EQ(capture(1000, 0, false, "", &f), CTL_OK);
    } while (f.u.captured.error == 0);
    CHECK_EQ(f.u.captured.error, ENOENT);
    end(); /* with a capture that goes on */
}

int main(void)
{
    RUN(headers_only);
    RUN(with_payload);
    RUN(has_a_size);
    RUN(never_waits);
    RUN(ends_by_itself);
    return test_end("capture");
}
