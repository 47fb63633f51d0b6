/*
 * Clients that move to another address (RFC 8016), in the worker that has the session. What two
 * workers do together is in letters.c. M5 is a row of the conformance table, X104 one of the threat
 * table.
 */
#include "move.h"
#include "worker_kit.h"

static bool told_of_move(void)
{
    struct ctl_frame f;
    return kit_frame(&k, &f) && f.code == CTL_SESSION_MOVED && f.u.session_moved.session == ID &&
           addr_equal(&f.u.session_moved.client, &k.client);
}

/* M5: the old 5-tuple serves both ways until data comes from the new one. */
static void m5_a_client_moves_when_it_speaks_from_its_new_address(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    struct addr old = k.client;
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    k.client.port = 6000;
    struct addr new = k.client;
    CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "a", 1);
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &old));
    k.client = old;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "old"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));

    k.client = new;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "new"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));
    CHECK_EQ(kit_count(&k, CTR_moves), 1);
    CHECK(told_of_move());
    kit_from_peer(&k, &s->relayed[0], &k.peer, "b", 1);
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &new));
    k.client = old;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "late"));
    CHECK(nothing_sent());
    CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 0);
    kit_stop(&k);
}

static void m5_a_client_that_lands_at_another_worker_is_carried(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    k.client.port = 6000;
    CHECK_EQ(kit_move(&k, ID, 1), CTL_OK);
    CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 0); /* worker 1 has it */

    /* What worker 1 would carry over. */
    size_t len = send_indication(buf, sizeof(buf), &k.peer, "hello");
    struct mail_carry carry = {.session = ID, .flow = kit_flow(&k), .len = (uint32_t)len};
    move_carried(&k.worker.shard, &carry, buf);
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &k.peer));
    CHECK_EQ(sent.len, 5);
    CHECK_EQ(kit_count(&k, CTR_moves), 1);
    CHECK(told_of_move());
    CHECK(addr_equal(&s->flow.client, &k.client));
    kit_stop(&k);

    /* And how worker 1 does it. */
    kit_start(&k);
    struct mail_roam roam = {.add = true, .session = 7, .home = 1, .flow = kit_flow(&k)};
    move_roamer(&k.worker.shard, &roam);
    kit_from_client(&k, buf, len);
    CHECK(nothing_sent());
    uint32_t mail_len;
    struct mailbox *letters = &k.neighbour.letters.box;
    const uint8_t *record = mailbox_peek(letters, &mail_len);
    CHECK(record && record[0] == MAIL_CARRY);
    memcpy(&carry, record + 1, sizeof(carry));
    CHECK_EQ(carry.session, 7);
    CHECK_EQ(carry.len, len);
    CHECK_MEM(record + 1 + sizeof(carry), buf, len);
    mailbox_consume(letters);
    roam.add = false;
    move_roamer(&k.worker.shard, &roam);
    kit_from_client(&k, buf, len);
    CHECK_EQ(kit_count(&k, CTR_no_allocation), 1);
    kit_stop(&k);
}

/* Erlang must hear of every move: one that it cannot be told of waits for the next datagram. */
static void m5_no_move_without_a_word(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    struct addr old = k.client;
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    k.client.port = 6000;
    CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
    enum { FILLER = 512 };
    while (mailbox_room(&k.worker.shard.out) > FILLER)
        mailbox_commit(&k.worker.shard.out, mailbox_reserve(&k.worker.shard.out, FILLER), FILLER);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.peer, "hello"));
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_carry_full), 1);
    CHECK(addr_equal(&s->flow.client, &old));
    uint32_t len;
    while (mailbox_peek(&k.worker.shard.out, &len))
        mailbox_consume(&k.worker.shard.out);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.peer, "hello"));
    CHECK(took(&sent));
    CHECK(told_of_move());
    kit_stop(&k);
}

static void x104_a_later_move_replaces_the_pending_one(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    for (uint16_t port = 6000; port < 6020; port++) {
        k.client.port = port;
        CHECK_EQ(kit_move(&k, ID, 0), CTL_OK);
        CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 1);
    }
    k.client.port = 6000;
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    CHECK(nothing_sent());
    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    kit_command(&k, &del);
    kit_turn(&k, 0); /* the socket is closed, the session goes */
    CHECK_EQ(k.worker.shard.roamers.by_tuple.count, 0);
    kit_stop(&k);
}

int main(void)
{
    RUN(m5_a_client_moves_when_it_speaks_from_its_new_address);
    RUN(m5_a_client_that_lands_at_another_worker_is_carried);
    RUN(m5_no_move_without_a_word);
    RUN(x104_a_later_move_replaces_the_pending_one);
    return test_end("moves");
}
