/*
 * Allocations, permissions and channels as a worker has them: when they end, who may have them,
 * what they tell of themselves. Row numbers are those of the conformance (T), threat (X) and
 * compatibility (K) tables.
 */
#include "worker_kit.h"

/* X78, K16, K17: everything ends on time by itself, while packets flow and Erlang is silent. */
static void x78_deadlines_hold_without_erlang(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 900000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    int passed = 0;
    size_t len = channel_data(buf, 0x4001, "x");
    for (int second = 1; second <= 310; second++) {
        kit_turn(&k, 1000);
        kit_from_client(&k, buf, len);
        kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
        while (took(&sent))
            passed++;
    }
    CHECK_EQ(passed, 2 * 299); /* over at 300 s to the second, data or no data */
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_OK);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent));
    CHECK_EQ(load16(sent.data), 0x4001); /* the channel is still bound */
    kit_turn(&k, 290 * 1000);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent));
    CHECK_EQ(load16(sent.data), 0x0017); /* K17: channel over at 600 s, permission not */
    kit_from_client(&k, buf, len);
    CHECK(nothing_sent());

    struct ctl_frame f;
    CHECK(!kit_frame(&k, &f));
    kit_turn(&k, 299 * 1000);
    CHECK(session_by_id(&k.worker.shard.sessions, ID));
    kit_turn(&k, 1250); /* 900 s and a sweep */
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(f.u.session_gone.session, ID);
    CHECK_EQ(f.u.session_gone.reason, GONE_EXPIRED);
    CHECK_EQ(fake_io_sockets(k.io), 1); /* the listener's alone */
    CHECK_EQ(ports_free(&k.ports), 2 * 9000);
    CHECK_EQ(k.worker.shard.sessions.permission_slab.live, 0);
    CHECK_EQ(k.worker.shard.sessions.channel_slab.live, 0);
    kit_stop(&k);
}

static void t33_refresh_moves_the_deadline_both_ways(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct ctl_frame refresh = {.code = CTL_ALLOC_REFRESH,
                                .u.alloc_refresh = {.session = ID, .lifetime_ms = 5000}};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 5500);
    kit_turn(&k, 0);
    struct ctl_frame f;
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(kit_ask(&k, &refresh), CTL_GONE);

    kit_allocate(&k, ID + 1, true, false, 5000);
    refresh.u.alloc_refresh = (struct ctl_alloc_refresh){.session = ID + 1, .lifetime_ms = 600000};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 599 * 1000);
    CHECK(session_by_id(&k.worker.shard.sessions, ID + 1));
    kit_stop(&k);
}

static void x81_nothing_of_the_old_session_is_left_for_the_new(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    struct ctl_frame f;
    kit_command(&k, &del);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "late"));
    CHECK(nothing_sent());
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(f.u.session_gone.reason, GONE_DELETED);
    struct session *s = kit_allocate(&k, ID + 1, true, false, 600000);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(nothing_sent());
    kit_stop(&k);
}

/* What was relayed is told of one session in full, and of all of them in rows. */
static void a_session_tells_what_it_relayed_and_dropped(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "four"));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "seven b", 7);
    kit_from_client(&k, buf, channel_data(buf, 0x4002, "no channel"));
    struct addr stranger = k.peer;
    stranger.ip[0] ^= 1;
    kit_from_peer(&k, &s->relayed[0], &stranger, "z", 1);
    kit_from_peer(&k, &s->relayed[0], &stranger, "z", 1);
    struct ctl_frame info = {.code = CTL_SESSION_INFO, .u.session_info = {.session = ID}};
    struct ctl_frame f;
    kit_command(&k, &info);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_stats.client_packets, 1);
    CHECK_EQ(f.u.session_stats.client_bytes, 4);
    CHECK_EQ(f.u.session_stats.peer_bytes, 7);
    CHECK_EQ(f.u.session_stats.dropped, 3);
    CHECK_EQ(f.u.session_stats.no_channel, 1);
    CHECK_EQ(f.u.session_stats.no_permission, 2);
    CHECK_EQ(f.u.session_stats.over_bandwidth, 0);

    struct ctl_frame list = {.code = CTL_SESSIONS, .u.sessions = {.from = 0}};
    kit_command(&k, &list);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_ROWS);
    CHECK_EQ(f.u.session_rows.next, 0);
    CHECK_EQ(f.u.session_rows.rows.len, 48);
    const uint64_t row[] = {ID, 1, 4, 1, 7, 3};
    for (int i = 0; i < 6; i++)
        CHECK_EQ(load64(f.u.session_rows.rows.data + i * 8), row[i]);

    struct ctl_frame del = {.code = CTL_ALLOC_DELETE, .u.alloc_delete = {.session = ID}};
    kit_command(&k, &del);
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_gone.no_permission, 2);
    kit_command(&k, &list);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_rows.rows.len, 0);
    kit_stop(&k);
}

static void t15_a_taken_tuple_is_a_conflict(void)
{
    kit_start(&k);
    CHECK(kit_allocate(&k, ID, true, false, 600000));
    CHECK(!kit_allocate(&k, ID + 1, true, false, 600000));
    CHECK_EQ(fake_io_sockets(k.io), 2);
    k.client.port++;
    CHECK(kit_allocate(&k, ID + 1, true, false, 600000));
    kit_stop(&k);
}

static void t36_permit_is_all_or_none(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr bad = k.peer, v6;
    CHECK(addr_parse(&bad, "10.0.0.1", 1) && addr_parse(&v6, "2001:db8::1", 1));
    kit_policy(&k, &bad, 96 + 8);
    uint8_t list[128];
    struct wbytes w = wbytes_of(list, sizeof(list));
    ctl_put_addr(&w, &k.peer);
    ctl_put_addr(&w, &bad);
    struct ctl_frame f = {.code = CTL_PERMIT,
                          .u.permit = {.session = ID,
                                       .lifetime_ms = 300000,
                                       .peers = ctl_bytes_of(list, wbytes_len(&w))}};
    struct ctl_frame reply;
    kit_command(&k, &f);
    CHECK(kit_frame(&k, &reply));
    CHECK_EQ(reply.u.reply.status, CTL_FORBIDDEN);
    CHECK_EQ(reply.u.reply.detail.len, 10);
    CHECK_MEM(reply.u.reply.detail.data, "10.0.0.0/8", 10);
    CHECK_EQ(k.worker.shard.sessions.permission_slab.live, 0);
    CHECK_EQ(kit_permit(&k, ID, &v6, 300000), CTL_FAMILY);
    kit_stop(&k);
}

static void x16_a_new_policy_ends_live_permissions(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    kit_policy(&k, &k.peer, 128);
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "x"));
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(nothing_sent());
    CHECK_EQ(kit_permit(&k, ID, &k.peer, 300000), CTL_FORBIDDEN);
    kit_stop(&k);
}

/* X09, X10 and trap 6: own addresses only where another allocation relays. */
static void x09_x10_own_addresses(void)
{
    kit_start(&k);
    struct session *a = kit_allocate(&k, ID, true, false, 600000);
    struct addr a_addr = relayed_local(&a->relayed[0]);
    k.client.port++;
    struct session *b = kit_allocate(&k, ID + 1, true, false, 600000);
    struct addr b_addr = relayed_local(&b->relayed[0]);

    CHECK_EQ(kit_permit(&k, ID + 1, &a_addr, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID + 1, 0x4001, &b_addr, 600000, 300000), CTL_FORBIDDEN); /* itself */
    CHECK_EQ(kit_channel(&k, ID + 1, 0x4001, &k.server, 600000, 300000), CTL_FORBIDDEN);
    CHECK_EQ(kit_channel(&k, ID + 1, 0x4001, &a_addr, 600000, 300000), CTL_OK);
    struct addr interface;
    CHECK(addr_parse(&interface, "203.0.113.5", 22));
    CHECK_EQ(kit_permit(&k, ID + 1, &interface, 300000), CTL_FORBIDDEN);

    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &k.server, "STUN to itself"));
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &b_addr, "loop"));
    CHECK(nothing_sent());
    CHECK_EQ(kit_count(&k, CTR_forbidden_peer), 2);
    kit_from_client(&k, buf, send_indication(buf, sizeof(buf), &a_addr, "to the other"));
    CHECK(took(&sent));
    CHECK(addr_equal(&sent.to, &a_addr));
    kit_stop(&k);
}

static void t22_two_families_in_one_allocation(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, true, 600000);
    struct addr v6;
    CHECK(addr_parse(&v6, "2001:db8::7", 9));
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &v6, 600000, 300000), CTL_OK);
    kit_from_client(&k, buf, channel_data(buf, 0x4002, "six"));
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[1].io);
    CHECK(addr_equal(&sent.to, &v6));
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "four"));
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[0].io);
    /* Data indications of IPv6 peers are longer; the room before the payload must do. */
    v6.port++;
    kit_from_peer(&k, &s->relayed[1], &v6, "hello", 5);
    CHECK(took(&sent));
    struct stun_view v;
    CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
    kit_stop(&k);
}

static void t34_one_family_ends_without_the_other(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, true, 600000);
    struct addr v6 = {0};
    CHECK(addr_parse(&v6, "2001:db8::7", 9));
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    CHECK_EQ(kit_channel(&k, ID, 0x4002, &v6, 600000, 300000), CTL_OK);
    struct ctl_frame refresh = {.code = CTL_ALLOC_REFRESH,
                                .u.alloc_refresh = {.session = ID, .family = 6, .lifetime_ms = 0}};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 0);
    struct ctl_frame f;
    CHECK(!kit_frame(&k, &f));
    CHECK_EQ(ports_free(&k.ports), 2 * 9000 - 1); /* the IPv6 port is back */
    kit_from_client(&k, buf, channel_data(buf, 0x4002, "six"));
    CHECK(nothing_sent());
    kit_from_client(&k, buf, channel_data(buf, 0x4001, "four"));
    CHECK(took(&sent));
    CHECK(sent.socket == &s->relayed[0].io);
    CHECK_EQ(kit_permit(&k, ID, &v6, 300000), CTL_FAMILY);
    CHECK_EQ(kit_ask(&k, &refresh), CTL_FAMILY);
    /* The last one takes the allocation along. */
    refresh.u.alloc_refresh.family = 4;
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_SESSION_GONE);
    CHECK_EQ(f.u.session_gone.reason, GONE_DELETED);

    /* Deadlines of their own as well. */
    s = kit_allocate(&k, ID + 1, true, true, 600000);
    refresh.u.alloc_refresh =
        (struct ctl_alloc_refresh){.session = ID + 1, .family = 4, .lifetime_ms = 900000};
    CHECK_EQ(kit_ask(&k, &refresh), CTL_OK);
    kit_turn(&k, 601 * 1000);
    kit_turn(&k, 0);
    CHECK(session_by_id(&k.worker.shard.sessions, ID + 1));
    CHECK(s->relayed[0].open && !s->relayed[1].open);
    kit_turn(&k, 300 * 1000);
    kit_turn(&k, 0);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.u.session_gone.reason, GONE_EXPIRED);
    kit_stop(&k);
}

static void x08_broadcast_addresses_of_this_host_are_denied(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr peer;
    CHECK(addr_parse(&peer, "203.0.113.255", 9));
    CHECK_EQ(kit_permit(&k, ID, &peer, 300000), CTL_FORBIDDEN);
    kit_stop(&k);
}

static void full_tables_say_so(void)
{
    kit_start(&k);
    kit_allocate(&k, ID, true, false, 600000);
    struct addr peer = k.peer;
    uint16_t status = CTL_OK;
    int installed = 0;
    for (int i = 0; i < 200 && status == CTL_OK; i++) {
        store16(peer.ip + 14, (uint16_t)(i + 1));
        status = kit_permit(&k, ID, &peer, 300000);
        installed += status == CTL_OK;
    }
    CHECK_EQ(status, CTL_FULL);
    CHECK_EQ(installed, 128);
    store16(peer.ip + 14, 1); /* what is there is renewed all the same */
    CHECK_EQ(kit_permit(&k, ID, &peer, 300000), CTL_OK);
    peer.port = 99;
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &peer, 600000, 300000), CTL_OK);
    kit_turn(&k, 301 * 1000);
    CHECK_EQ(k.worker.shard.sessions.permission_slab.live, 0);
    CHECK_EQ(kit_permit(&k, ID, &peer, 300000), CTL_OK);
    kit_stop(&k);
}

int main(void)
{
    RUN(x78_deadlines_hold_without_erlang);
    RUN(t33_refresh_moves_the_deadline_both_ways);
    RUN(x81_nothing_of_the_old_session_is_left_for_the_new);
    RUN(a_session_tells_what_it_relayed_and_dropped);
    RUN(t15_a_taken_tuple_is_a_conflict);
    RUN(t36_permit_is_all_or_none);
    RUN(x16_a_new_policy_ends_live_permissions);
    RUN(x09_x10_own_addresses);
    RUN(t22_two_families_in_one_allocation);
    RUN(t34_one_family_ends_without_the_other);
    RUN(x08_broadcast_addresses_of_this_host_are_denied);
    RUN(full_tables_say_so);
    return test_end("allocations");
}
