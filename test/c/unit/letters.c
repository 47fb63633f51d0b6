/*
 * What one worker hands to another. Media depends on Erlang for nothing: also that of a client that
 * moved and whose datagrams now come to another worker than its session's (RFC 8016).
 */
#include <pthread.h>

#include "alloc.h"
#include "letters.h"
#include "mail.h"
#include "move.h"
#include "relay_kit.h"
#include "test.h"

#define ID 42u

/* ------------------------------------------------------------------------------------- the box */

enum { WRITERS = 4, EACH = 20000 };

static struct letters box;

struct note {
    uint32_t writer, number;
};

static void *write_notes(void *arg)
{
    struct note n = {.writer = (uint32_t)(uintptr_t)arg};
    static const uint8_t padding[1200];
    while (n.number < EACH)
        if (letters_put(&box, 9, &n, sizeof(n), padding, n.number % sizeof(padding)))
            n.number++;
    return NULL;
}

static void letters_of_several_writers_come_whole_and_in_order(void)
{
    pthread_t threads[WRITERS];
    uint32_t next[WRITERS] = {0}, len;
    CHECK(letters_init(&box));
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_notes, (void *)i), 0);
    for (unsigned got = 0; got < WRITERS * EACH;) {
        const uint8_t *record = mailbox_peek(&box.box, &len);
        if (!record)
            continue;
        struct note n;
        memcpy(&n, record + 1, sizeof(n));
        if (record[0] != 9 || n.writer >= WRITERS || n.number != next[n.writer] ||
            len != 1 + sizeof(n) + n.number % 1200) {
            CHECK(!"a letter is not what was written");
            break;
        }
        next[n.writer]++;
        got++;
        mailbox_consume(&box.box);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        CHECK_EQ(next[i], EACH);
        pthread_join(threads[i], NULL);
    }
    letters_destroy(&box);
}

/* --------------------------------------------------------------------------------- two workers */

static struct kit home, away; /* workers 0 and 1 */
static uint8_t buf[2048];
static size_t len;

/* A session of worker 0 whose client has been told it may move to where worker 1 gets it. */
static struct session *moved(void)
{
    kit_start(&home);
    kit_start(&away);
    home.shards[1] = &away.worker.shard;
    away.shards[0] = &home.worker.shard;
    away.shards[1] = &away.worker.shard;
    away.worker.shard.config.index = 1;
    struct session *s = kit_allocate(&home, ID, true, false, 600000);
    CHECK_EQ(kit_permit(&home, ID, &home.peer, 300000), CTL_OK);
    home.client.port = away.client.port = 6000;
    CHECK_EQ(kit_move(&home, ID, 1), CTL_OK);
    struct mail_roam roam = {
        .to = 1, .add = true, .session = ID, .home = 0, .flow = kit_flow(&away)};
    move_roamer(&away.worker.shard, &roam);
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {1};
    stun_build_start(&b, buf, sizeof(buf), STUN_INDICATION, STUN_SEND, txid);
    stun_put_addr(&b, A_xor_peer_address, &home.peer);
    stun_put_bytes(&b, A_data, "hello", 5);
    len = stun_build_end(&b);
    return s;
}

static void part(void)
{
    struct mail_roam roam = {.to = 1, .session = ID, .home = 0, .flow = kit_flow(&away)};
    move_roamer(&away.worker.shard, &roam);
    kit_stop(&home);
    kit_stop(&away);
}

static void fill(struct mailbox *m, uint32_t leave)
{
    enum { FILLER = 512 };
    while (mailbox_room(m) > leave + FILLER) {
        uint8_t *record = mailbox_reserve(m, FILLER);
        record[0] = 0; /* no kind */
        mailbox_commit(m, record, FILLER);
    }
}

static bool relayed(void)
{
    struct fake_sent sent;
    kit_from_client(&away, buf, len);
    kit_turn(&home, 0);
    return fake_io_take(home.io, &sent) && sent.len == 5 && addr_equal(&sent.to, &home.peer);
}

static void m5_media_of_a_client_that_moved_goes_on_while_erlang_reads_nothing(void)
{
    struct session *s = moved();
    CHECK(relayed()); /* the move itself is told */
    CHECK(addr_equal(&s->flow.client, &home.client));
    /* Nothing is read any more, of either worker, and a command waits at worker 0 for room. */
    fill(&home.worker.shard.out, 0);
    fill(&away.worker.shard.out, 0);
    struct ctl_frame f = {.code = CTL_ALLOC_REFRESH,
                          .u.alloc_refresh = {.session = ID, .lifetime_ms = 1000}};
    kit_command(&home, &f);
    CHECK(atomic_load(&home.worker.starved));
    for (int i = 0; i < 5000; i++) /* more than the ways out could hold */
        if (!CHECK(relayed()))
            break;
    CHECK_EQ(kit_count(&away, CTR_carry_full), 0);
    uint32_t n;
    while (mailbox_peek(&home.worker.shard.out, &n))
        mailbox_consume(&home.worker.shard.out);
    while (mailbox_peek(&away.worker.shard.out, &n))
        mailbox_consume(&away.worker.shard.out);
    part();
}

/* The other worker may stand still: nobody waits for it, and what is lost is counted. */
static void m5_what_is_lost_between_two_workers_is_counted(void)
{
    moved();
    CHECK(relayed());
    uint64_t sent = 0;
    while (kit_count(&away, CTR_carry_full) == 0 && sent < 100000) {
        kit_from_client(&away, buf, len);
        sent++;
    }
    CHECK(sent > 1000 && sent < 100000);
    kit_from_client(&away, buf, len);
    CHECK_EQ(kit_count(&away, CTR_carry_full), 2);
    CHECK_EQ(kit_count(&home, CTR_peer_sent_packets), 1);
    kit_turn(&home, 0);
    CHECK_EQ(kit_count(&home, CTR_peer_sent_packets), sent);
    struct fake_sent out;
    while (fake_io_take(home.io, &out))
        ;
    CHECK(relayed());
    part();
}

/* Of a 5-tuple that the session has left, and of one whose listener is gone in its worker. */
static void m5_what_comes_too_late_is_counted(void)
{
    moved();
    CHECK(relayed());
    struct mail_carry carry = {.session = ID, .flow = kit_flow(&home), .len = (uint32_t)len};
    carry.flow.client.port = 6001;
    move_carried(&home.worker.shard, &carry, buf);
    CHECK_EQ(kit_count(&home, CTR_no_allocation), 1);
    carry.flow.listener = 77;
    move_carried(&home.worker.shard, &carry, buf);
    CHECK_EQ(kit_count(&home, CTR_carry_full), 1);
    part();
}

/* ----------------------------------------------------------------------------- roamers that end */

/* How many roamers worker 0 has asked others to set, less those it has asked them to remove. Takes
 * all it has said. */
static int roamers_left(void)
{
    int left = 0;
    uint32_t n;
    const uint8_t *record;
    while ((record = mailbox_peek(&home.worker.shard.out, &n))) {
        if (record[0] == MAIL_ROAM) {
            struct mail_roam m;
            memcpy(&m, record + 1, sizeof(m));
            left += m.add ? 1 : -1;
        } else if (record[0] == MAIL_PORT_FREE) {
            struct mail_port m;
            memcpy(&m, record + 1, sizeof(m));
            port_release(m.pool, m.port);
        }
        mailbox_consume(&home.worker.shard.out);
    }
    return left;
}

/* A roamer that nobody removes holds its listener open for ever. */
static void sessions_that_expire_while_nothing_is_read_leave_no_roamer(void)
{
    enum { SESSIONS = 20 };
    kit_start(&home);
    for (unsigned i = 0; i < SESSIONS; i++) {
        home.client.port = (uint16_t)(5000 + i);
        CHECK(kit_allocate(&home, ID + i, true, false, 60000));
        home.client.port = (uint16_t)(6000 + i);
        struct mail_move m = {.session = ID + i, .flow = kit_flow(&home), .home = 1};
        move_session(&home.worker.shard, &m);
        CHECK_EQ(roamers_left(), 1);
    }
    fill(&home.worker.shard.out, 0);
    for (int i = 0; i < 4; i++)
        kit_turn(&home, 60000);
    CHECK(atomic_load(&home.worker.starved));
    CHECK_EQ(roamers_left(), 0); /* there was room for none */
    int left = SESSIONS;
    for (int i = 0; i < 4; i++) {
        kit_turn(&home, 0);
        left += roamers_left();
    }
    CHECK_EQ(left, 0);
    CHECK_EQ(home.worker.shard.sessions.session_slab.live, 0);
    CHECK_EQ(home.listener->end.holds, 0);
    kit_stop(&home);
}

static void an_allocation_whose_sockets_do_not_open_leaves_no_roamer(void)
{
    kit_start(&home);
    struct mail_alloc m = {.session = ID,
                           .listener = 1,
                           .transport = CTL_TRANSPORT_UDP,
                           .client = home.client,
                           .server = home.server,
                           .lifetime_ms = 60000,
                           .home = 1};
    uint64_t token;
    CHECK_EQ(port_take(&home.ports, ports_find(&home.ports, 1), 0, PORT_ANY,
                       home.worker.shard.time.now, &m.relayed[0], &token),
             0);
    fake_io_refuse(home.io, true);
    alloc_create(&home.worker.shard, &m);
    fake_io_refuse(home.io, false);
    CHECK_EQ(roamers_left(), 0);
    CHECK_EQ(home.worker.shard.sessions.session_slab.live, 0);
    CHECK_EQ(home.listener->end.holds, 0);
    CHECK_EQ(ports_free(&home.ports), 2 * 9000);
    kit_stop(&home);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(letters_of_several_writers_come_whole_and_in_order);
    RUN(m5_media_of_a_client_that_moved_goes_on_while_erlang_reads_nothing);
    RUN(m5_what_is_lost_between_two_workers_is_counted);
    RUN(m5_what_comes_too_late_is_counted);
    RUN(sessions_that_expire_while_nothing_is_read_leave_no_roamer);
    RUN(an_allocation_whose_sockets_do_not_open_leaves_no_roamer);
    return test_end("letters");
}
