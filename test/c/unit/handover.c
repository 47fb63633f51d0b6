/*
 * What one relay program hands to the next: messages of another build, field by field; bytes with
 * more descriptors than one message takes; and sockets that are found by their addresses.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "left.h"
#include "left_conns.h"
#include "numbered.h"
#include "parcel.h"
#include "test.h"

enum { ROOM = 4096 };

static uint8_t room[ROOM], frame[ROOM], back[ROOM];

/* ------------------------------------------------------------------------------------- numbered */

static struct ctl_frame sample(void)
{
    static const uint8_t note[] = {1, 2, 3};
    struct ctl_frame f = {.code = CTL_KEPT,
                          .u.kept = {.workers = 3,
                                     .epoch = 0x01020304,
                                     .away_ms = 5,
                                     .note = ctl_bytes_of(note, sizeof(note))}};
    return f;
}

static void every_message_comes_back_as_it_was(void)
{
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++) {
        struct ctl_frame f = {.code = ctl_messages[i].code};
        size_t len = ctl_encode(&f, frame, sizeof(frame));
        struct wbytes w = wbytes_of(room, sizeof(room)), out = wbytes_of(back, sizeof(back));
        numbered_put(&w, frame, len);
        CHECK(!w.overflow);
        struct bytes b = bytes_of(room, wbytes_len(&w));
        CHECK_EQ(numbered_get(&b, &out), NUMBERED_FRAME);
        CHECK_EQ(wbytes_len(&out), len);
        CHECK(memcmp(frame, back, len) == 0);
        CHECK_EQ(numbered_get(&b, &out), NUMBERED_END);
    }
}

/* A message of KEPT's code, with these fields. */
static struct bytes foreign(const uint8_t *fields, size_t len)
{
    struct wbytes w = wbytes_of(room, sizeof(room));
    wbytes_put32(&w, (uint32_t)len + 1);
    wbytes_put8(&w, CTL_KEPT);
    wbytes_put(&w, fields, len);
    return bytes_of(room, wbytes_len(&w));
}

static struct ctl_frame read_one(struct bytes b)
{
    struct wbytes out = wbytes_of(back, sizeof(back));
    struct ctl_frame f = {0};
    CHECK_EQ(numbered_get(&b, &out), NUMBERED_FRAME);
    CHECK_EQ(ctl_decode(&f, back, wbytes_len(&out)), CTL_ERR_NONE);
    return f;
}

static void what_another_build_has_is_skipped_and_what_it_lacks_is_nothing(void)
{
    static const uint8_t fields[] = {
        1,  0, 0, 0, 4, 0, 0, 0, 7, /* workers, which that one has as u32 */
        60, 0, 0, 0, 2, 9, 9,       /* a field we do not have */
        99, 0, 0, 0, 0,             /* nor will */
        3,  0, 0, 0, 1, 5,          /* away_ms, as u8 */
    };
    struct ctl_frame f = read_one(foreign(fields, sizeof(fields)));
    CHECK_EQ(f.u.kept.workers, 7);
    CHECK_EQ(f.u.kept.epoch, 0);
    CHECK_EQ(f.u.kept.away_ms, 5);
    CHECK_EQ(f.u.kept.note.len, 0);
}

static void a_number_too_large_is_the_largest_there_is(void)
{
    static const uint8_t fields[] = {1, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    CHECK_EQ(read_one(foreign(fields, sizeof(fields))).u.kept.workers, UINT16_MAX);
}

static void an_unknown_message_is_skipped(void)
{
    struct wbytes w = wbytes_of(room, sizeof(room)), out = wbytes_of(back, sizeof(back));
    struct ctl_frame f = sample();
    wbytes_put32(&w, 3);
    wbytes_put8(&w, 0xfe);
    wbytes_put16(&w, 0);
    numbered_put(&w, frame, ctl_encode(&f, frame, sizeof(frame)));
    struct bytes b = bytes_of(room, wbytes_len(&w));
    CHECK_EQ(numbered_get(&b, &out), NUMBERED_UNKNOWN);
    CHECK_EQ(wbytes_len(&out), 0);
    CHECK_EQ(numbered_get(&b, &out), NUMBERED_FRAME);
    CHECK_EQ(back[0], CTL_KEPT);
}

static void what_is_cut_off_is_no_message(void)
{
    struct wbytes w = wbytes_of(room, sizeof(room));
    struct ctl_frame f = sample();
    numbered_put(&w, frame, ctl_encode(&f, frame, sizeof(frame)));
    for (size_t len = 1; len < wbytes_len(&w); len++) {
        struct bytes b = bytes_of(room, len);
        struct wbytes out = wbytes_of(back, sizeof(back));
        CHECK_EQ(numbered_get(&b, &out), NUMBERED_BAD);
    }
}

/* What programs that are out there tell each other: more may come behind, nothing else changes. */
static const struct told {
    uint8_t code;
    const char *fields;
} told[] = {
    {CTL_LEFT, "held_ns sockets "},
    {CTL_SOCKET, "kind local worker lost whole listener client spoken answered crowded silent_ms "},
    {CTL_WAITING, "what age_ms bytes "},
    {CTL_KEPT, "workers epoch away_ms listeners note "},
    {CTL_NOTE, "session note "},
    {CTL_ALLOC_CREATE,
     "session listener transport client server pool_v4 pool_v6 port_v4 port_v6 even "
     "token lifetime_ms bytes_per_s bucket protocol connections_max packets_per_s "},
    {CTL_ALLOC_REFRESH, "session family lifetime_ms "},
    {CTL_ALLOC_MOVE, "session listener transport client server "},
    {CTL_CHANNEL, "session number peer lifetime_ms permission_ms "},
    {CTL_PERMIT, "session lifetime_ms peers "},
    {CTL_CONNECTED, "session status incoming connection peer detail "},
    {CTL_JOIN, "flow session connection "},
};

static void fields_keep_their_numbers(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(told); i++) {
        const struct ctl_field_desc *f = ctl_message_of(told[i].code)->fields;
        const char *at = told[i].fields;
        for (; *at && f->name; f++) {
            size_t len = strlen(f->name);
            CHECK(strncmp(at, f->name, len) == 0 && at[len] == ' ');
            at += MIN(len + 1, strlen(at));
        }
        CHECK_EQ(*at, 0);
    }
}

/* --------------------------------------------------------------------------------------- parcel */

static int open_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 2048; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void more_descriptors_than_a_message_takes_arrive_in_order(void)
{
    enum { N = 600 };
    int ends[2], fds[N], before = open_fds();
    struct parcel p;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (int i = 0; i < N; i++) {
        fds[i] = memfd_create("t", 0);
        CHECK_EQ(write(fds[i], &i, sizeof(i)), sizeof(i));
    }
    const struct parcel_piece pieces[] = {{(const uint8_t *)"two ", 4, fds, 10},
                                          {(const uint8_t *)"pieces", 6, fds + 10, N - 10}};
    CHECK(parcel_send(ends[0], pieces, 2));
    CHECK(parcel_receive(ends[1], &p));
    CHECK_EQ(p.len, 10);
    CHECK(memcmp(p.bytes, "two pieces", 10) == 0);
    CHECK_EQ(p.fd_count, N);
    for (int i = 0; i < N; i++) {
        int said = -1;
        CHECK_EQ(pread(p.fds[i], &said, sizeof(said), 0), sizeof(said));
        CHECK_EQ(said, i);
        close(fds[i]);
    }
    parcel_end(&p);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(open_fds(), before);
}

static void a_parcel_that_ends_early_leaves_nothing(void)
{
    int ends[2], fd = memfd_create("t", 0), before;
    struct parcel p;
    const struct parcel_piece piece = {(const uint8_t *)"x", 1, &fd, 1};
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    before = open_fds();
    CHECK(parcel_send(ends[0], &piece, 1));
    CHECK_EQ(shutdown(ends[0], SHUT_WR), 0);
    char lost[8]; /* the head, and the file with it */
    CHECK_EQ(recv(ends[1], lost, sizeof(lost), 0), sizeof(lost));
    CHECK(!parcel_receive(ends[1], &p));
    CHECK(!parcel_receive(ends[1], &p));
    CHECK_EQ(open_fds(), before);
    close(ends[0]);
    close(ends[1]);
    close(fd);
}

/* ------------------------------------------------------------------------------- what was left */

static struct addr at(uint16_t port)
{
    const uint8_t ip[4] = {127, 0, 0, 1};
    return addr_from_v4(ip, port);
}

static void leave(struct left *l, enum left_kind kind, uint16_t port, unsigned worker)
{
    CHECK(left_add(l, &(struct left_socket){.kind = (uint8_t)kind,
                                            .local = at(port),
                                            .worker = worker,
                                            .past = {.lost = port, .whole = true},
                                            .fd = open("/dev/null", O_RDONLY)}));
}

static void a_socket_is_taken_once_and_what_is_left_is_closed(void)
{
    struct left l = {0};
    struct socket_past past;
    int before = open_fds();
    for (uint16_t port = 5000; port > 4900; port--)
        leave(&l, LEFT_RELAYED, port, 0);
    struct addr a = at(4950), none = at(4900);
    int fd = left_take(&l, LEFT_RELAYED, &a, &past);
    CHECK(fd >= 0);
    CHECK(past.lost == 4950 && past.whole);
    CHECK_EQ(left_take(&l, LEFT_RELAYED, &a, &past), -1);
    CHECK_EQ(left_take(&l, LEFT_RELAYED, &none, &past), -1);
    CHECK_EQ(left_end(&l), 99);
    CHECK_EQ(l.relayed, 1);
    close(fd);
    CHECK_EQ(open_fds(), before);
}

static void a_group_is_taken_whole_or_its_address_is_free(void)
{
    struct left l = {0};
    struct socket_past pasts[4];
    int fds[4], before = open_fds();
    struct addr a = at(3478), b = at(3479);
    for (unsigned i = 0; i < 3; i++) {
        leave(&l, LEFT_DATAGRAMS, 3478, i);
        leave(&l, LEFT_DATAGRAMS, 3479, i);
    }
    CHECK(left_take_group(&l, LEFT_DATAGRAMS, &a, 3, fds, pasts));
    CHECK(!left_take_group(&l, LEFT_DATAGRAMS, &b, 4, fds + 3, pasts));
    CHECK(!left_take_group(&l, LEFT_STREAMS, &a, 3, fds + 3, pasts));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    CHECK_EQ(left_end(&l), 0);
    CHECK_EQ(open_fds(), before);
}

static void leave_conn(struct left_conns *l, uint32_t listener, unsigned worker)
{
    const struct ctl_socket m = {.listener = listener, .worker = (uint16_t)worker};
    CHECK(left_conns_add(l, &m, open("/dev/null", O_RDONLY)));
}

static void connections_go_with_what_waits_for_them(void)
{
    struct left_conns l = {0};
    struct left_conn *c;
    size_t at = 0, next = 0;
    int before = open_fds();
    CHECK(left_conns_wait(&l, (const uint8_t *)"lost", 4)); /* of nobody */
    for (unsigned i = 0; i < 100; i++)
        leave_conn(&l, i % 2, i);
    CHECK(left_conns_wait(&l, (const uint8_t *)"one", 3));
    CHECK(left_conns_wait(&l, (const uint8_t *)"other", 5));
    for (unsigned i = 0; (c = left_conns_take(&l, 1, &at)); i++) {
        CHECK_EQ(c->told.worker, 2 * i + 1);
        if (c->told.worker == 99) {
            struct ctl_bytes b;
            CHECK(frames_next(c->waiting.bytes, c->waiting.len, &next, &b));
            CHECK_BYTES(b.data, b.len, "one", 3);
            CHECK(frames_next(c->waiting.bytes, c->waiting.len, &next, &b));
            CHECK_BYTES(b.data, b.len, "other", 5);
            CHECK(!frames_next(c->waiting.bytes, c->waiting.len, &next, &b));
        }
        left_conn_end(c);
    }
    at = 0;
    CHECK(!left_conns_take(&l, 1, &at));
    CHECK_EQ(l.taken, 50);
    CHECK_EQ(left_conns_end(&l), 50);
    CHECK_EQ(open_fds(), before);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(every_message_comes_back_as_it_was);
    RUN(what_another_build_has_is_skipped_and_what_it_lacks_is_nothing);
    RUN(a_number_too_large_is_the_largest_there_is);
    RUN(an_unknown_message_is_skipped);
    RUN(what_is_cut_off_is_no_message);
    RUN(fields_keep_their_numbers);
    RUN(more_descriptors_than_a_message_takes_arrive_in_order);
    RUN(a_parcel_that_ends_early_leaves_nothing);
    RUN(a_socket_is_taken_once_and_what_is_left_is_closed);
    RUN(a_group_is_taken_whole_or_its_address_is_free);
    RUN(connections_go_with_what_waits_for_them);
    return test_end("handover");
}
