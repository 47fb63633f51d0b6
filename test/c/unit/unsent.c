/*
 * What was handed on and not sent counts for nobody as relayed: of the allocation, of the server,
 * and what it counts as instead.
 */
#include <errno.h>

#include "relay_kit.h"
#include "test.h"

enum { SESSION = 1, CHANNEL = 0x4000, LIFETIME_MS = 600000 };

static struct kit k;

static void expect_counts(const struct session *s, uint64_t to_peer, uint64_t to_client,
                          uint64_t bytes)
{
    CHECK_EQ(s->client_packets, to_peer);
    CHECK_EQ(s->client_bytes, to_peer * bytes);
    CHECK_EQ(s->peer_packets, to_client);
    CHECK_EQ(s->peer_bytes, to_client * bytes);
    CHECK_EQ(kit_count(&k, CTR_peer_sent_packets), to_peer);
    CHECK_EQ(kit_count(&k, CTR_peer_sent_bytes), to_peer * bytes);
}

static uint64_t session_drops(const struct session *s, enum counter reason)
{
    return session_drops_for(s, reason - CTR_no_channel);
}

static struct session *start(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, SESSION, true, false, LIFETIME_MS);
    CHECK(s != NULL);
    CHECK_EQ(kit_permit(&k, SESSION, &k.peer, LIFETIME_MS), CTL_OK);
    CHECK_EQ(kit_channel(&k, SESSION, CHANNEL, &k.peer, LIFETIME_MS, LIFETIME_MS), CTL_OK);
    return s;
}

/* The next that was sent, as the kernel might have refused it. */
static void unsend(int err)
{
    CHECK(fake_io_unsend(k.io, err));
}

static void to_a_peer(void)
{
    test_begin("a datagram for a peer that the kernel refuses is dropped and not relayed");
    static const uint8_t frame[] = {0x40, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    static const struct {
        int err;
        enum counter reason;
    } rows[] = {{ENOBUFS, CTR_send_queue_full},
                {EAGAIN, CTR_send_queue_full},
                {ENETUNREACH, CTR_send_failed},
                {EPERM, CTR_send_failed}};
    struct session *s = start();
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        kit_from_client(&k, frame, sizeof(frame));
        expect_counts(s, i + 1, 0, 5);
        struct fake_sent out;
        CHECK(fake_io_take(k.io, &out));
        uint64_t before = session_drops(s, rows[i].reason);
        kit_from_client(&k, frame, sizeof(frame));
        unsend(rows[i].err);
        expect_counts(s, i + 1, 0, 5);
        CHECK_EQ(session_dropped(s), i + 1);
        CHECK_EQ(session_drops(s, rows[i].reason), before + 1);
        CHECK_EQ(kit_count(&k, rows[i].reason), before + 1);
    }
    kit_stop(&k);
}

static void expect_unsent_to_client(bool channel, bool crowded)
{
    struct session *s = start();
    struct addr from = k.peer;
    if (!channel)
        from.port++;
    fake_io_crowd(k.io, crowded);
    kit_from_peer(&k, &s->relayed[0], &from, "seven77", 7);
    expect_counts(s, 0, 1, 7);
    CHECK_EQ(kit_count(&k, CTR_client_sent_packets), 1);
    unsend(ENOBUFS);
    expect_counts(s, 0, 0, 7);
    CHECK_EQ(kit_count(&k, CTR_client_sent_packets), 0);
    CHECK_EQ(kit_count(&k, CTR_client_sent_bytes), 0);
    CHECK_EQ(session_dropped(s), 1);
    CHECK_EQ(session_drops(s, CTR_send_queue_full), 1);
    kit_stop(&k);
}

static void to_a_client(void)
{
    test_begin("so is what a peer sent: ChannelData");
    expect_unsent_to_client(true, false);
    test_begin("without room for its header");
    expect_unsent_to_client(true, true);
    test_begin("a Data indication");
    expect_unsent_to_client(false, false);
}

static void an_answer(void)
{
    test_begin("an answer that is not sent is no payload of an allocation");
    uint8_t buf[64], txid[STUN_TXID_LEN] = {1};
    struct stun_builder b;
    struct session *s = start();
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
    size_t len = stun_build_end(&b);
    kit_from_client(&k, buf, len);
    CHECK_EQ(kit_count(&k, CTR_client_sent_packets), 1);
    unsend(ENETUNREACH);
    CHECK_EQ(kit_count(&k, CTR_client_sent_packets), 0);
    CHECK_EQ(kit_count(&k, CTR_client_sent_bytes), 0);
    CHECK_EQ(kit_count(&k, CTR_send_failed), 1);
    CHECK_EQ(session_dropped(s), 0);
    expect_counts(s, 0, 0, 0);
    kit_stop(&k);
}

static void nobody_to_answer(void)
{
    test_begin("a client's datagram from port 0 is dropped, and nothing is tried to be sent there");
    uint8_t buf[64], txid[STUN_TXID_LEN] = {1};
    struct stun_builder b;
    start();
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
    size_t len = stun_build_end(&b);
    k.client.port = 0;
    for (unsigned i = 1; i <= 16; i++) {
        kit_from_client(&k, buf, len);
        CHECK_EQ(kit_count(&k, CTR_source_port_zero), i);
    }
    struct fake_sent out;
    CHECK(!fake_io_take(k.io, &out));
    CHECK_EQ(kit_count(&k, CTR_bindings), 0);
    kit_stop(&k);
}

static void trouble(void)
{
    test_begin("a failed receive is no failed send, nor are buffers that ran out");
    static const enum counter reasons[] = {[IO_NO_BUFFERS] = CTR_no_buffers,
                                           [IO_RECEIVE] = CTR_receive_failed,
                                           [IO_SEND_UNKNOWN] = CTR_send_failed};
    start();
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        k.io->events.on_trouble(k.io->events.ctx, (enum io_trouble)i, ENOBUFS);
        for (size_t j = 0; j < ARRAY_SIZE(reasons); j++)
            CHECK_EQ(kit_count(&k, reasons[j]), j <= i);
    }
    kit_stop(&k);
}

int main(void)
{
    to_a_peer();
    to_a_client();
    an_answer();
    nobody_to_answer();
    trouble();
    return test_end("unsent");
}
