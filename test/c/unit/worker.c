/*
 * How long a worker sleeps, and when it lets a listener go that is closed.
 */
#include "worker_kit.h"

/* With nothing to do too, so that it can be told from one that stands still. */
static void an_idle_worker_sleeps_a_second_at_most(void)
{
    kit_start(&k);
    CHECK(worker_sleep_ns(&k.worker) <= NS_PER_S * CLOCK_SPEED);
    kit_allocate(&k, ID, true, false, 600000);
    kit_turn(&k, 0);
    CHECK(worker_sleep_ns(&k.worker) <= NS_PER_S * CLOCK_SPEED);
    kit_stop(&k);
}

static void an_unlistened_listener_serves_its_sessions_to_the_end(void)
{
    kit_start(&k);
    struct session *s = kit_allocate(&k, ID, true, false, 600000);
    CHECK_EQ(kit_channel(&k, ID, 0x4001, &k.peer, 600000, 300000), CTL_OK);
    struct ctl_frame f = {.code = CTL_UNLISTEN, .u.unlisten = {.listener = 1}};
    kit_command(&k, &f);
    kit_from_peer(&k, &s->relayed[0], &k.peer, "y", 1);
    CHECK(took(&sent));
    k.client.port++;
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_BINDING));
    CHECK(nothing_sent());
    CHECK(!kit_listener_idle(&k, 1));
    kit_turn(&k, 601 * 1000);
    kit_turn(&k, 0);
    kit_turn(&k, 0);
    CHECK(kit_listener_idle(&k, 1));
    CHECK_EQ(fake_io_sockets(k.io), 1); /* another worker may need the group */
    kit_listener_over(&k, 1);
    kit_turn(&k, 0);
    CHECK_EQ(fake_io_sockets(k.io), 0);
    kit_stop(&k);
}

static void whoever_waits_for_an_answer_keeps_the_listener(void)
{
    kit_start(&k);
    uint64_t flow = asked();
    struct ctl_frame f = {.code = CTL_UNLISTEN, .u.unlisten = {.listener = 1}};
    kit_command(&k, &f);
    kit_turn(&k, 0);
    CHECK(!kit_listener_idle(&k, 1));
    f = (struct ctl_frame){
        .code = CTL_ANSWER,
        .u.answer = {.flow = flow, .packet = ctl_bytes_of((const uint8_t *)"done", 4)}};
    kit_command(&k, &f);
    CHECK(took(&sent));
    CHECK_EQ(sent.len, 4);
    CHECK(kit_listener_idle(&k, 1));
    kit_stop(&k);
}

/* Erlang has lost it: the client gave up long ago. */
static void a_request_that_is_lost_keeps_no_listener(void)
{
    kit_start(&k);
    asked();
    struct ctl_frame f = {.code = CTL_UNLISTEN, .u.unlisten = {.listener = 1}};
    kit_command(&k, &f);
    kit_turn(&k, 9000);
    CHECK(!kit_listener_idle(&k, 1));
    kit_turn(&k, 2000);
    CHECK(kit_listener_idle(&k, 1));
    kit_stop(&k);
}

int main(void)
{
    RUN(an_idle_worker_sleeps_a_second_at_most);
    RUN(an_unlistened_listener_serves_its_sessions_to_the_end);
    RUN(whoever_waits_for_an_answer_keeps_the_listener);
    RUN(a_request_that_is_lost_keeps_no_listener);
    return test_end("worker");
}
