/*
 * How long a worker waits: for several datagrams where they come close together, for the first
 * where they do not, and never in vain twice. And when it sleeps meanwhile.
 */
#include "pace.h"

#include "clock.h"
#include "test.h"

enum { US = 1000, MS = 1000000 };

/* One datagram every gap_ns, each a wait, for a while. */
static uint64_t arrive(struct pace *p, uint64_t now, uint64_t gap_ns, unsigned n)
{
    while (n--)
        pace_note(p, now += gap_ns, 1);
    return now;
}

static void the_first_wait_is_for_one(void)
{
    struct pace p = {0};
    CHECK_EQ(pace_next(&p).datagrams, 1);
    pace_note(&p, 1000ull * 1000 * MS, 1);
    CHECK_EQ(pace_next(&p).datagrams, 1);
}

static void sparse_traffic_is_not_delayed(void)
{
    struct pace p = {0};
    uint64_t now = 1000 * MS;
    for (uint64_t gap = 100 * US; gap <= 100 * MS; gap *= 10) {
        now = arrive(&p, now, gap, 100);
        CHECK_EQ(pace_next(&p).datagrams, 1);
    }
}

static void dense_traffic_is_waited_for_together(void)
{
    struct pace p = {0};
    uint64_t now = arrive(&p, 1000 * MS, 40 * US, 200);
    CHECK_EQ(pace_next(&p).datagrams, 2);
    now = arrive(&p, now, 15 * US, 200);
    CHECK_EQ(pace_next(&p).datagrams, 5);
    arrive(&p, now, 1 * US, 5000);
    CHECK_EQ(pace_next(&p).datagrams, PACE_DATAGRAMS);
    CHECK_EQ(pace_next(&p).ns, PACE_LONGEST_NS);
}

static void a_wait_in_vain_is_the_last_short_one(void)
{
    struct pace p = {0};
    uint64_t now = arrive(&p, 1000 * MS, 10 * US, 500);
    CHECK(pace_next(&p).datagrams > 1);
    pace_note(&p, now + PACE_LONGEST_NS, 0);
    CHECK_EQ(pace_next(&p).datagrams, 1);
    /* and after a pause it takes a new window to believe in density again */
    pace_note(&p, now + 500 * MS, 1);
    CHECK_EQ(pace_next(&p).datagrams, 1);
    arrive(&p, now + 500 * MS, 10 * US, 500);
    CHECK(pace_next(&p).datagrams > 1);
}

/* As long as they take, and never longer than the longest wait. */
static void a_short_wait_is_slept_through(void)
{
    struct pace p = {0};
    uint64_t now = arrive(&p, 1000 * MS, 40 * US, 200);
    CHECK_EQ(pace_next(&p).sleep_ns, PACE_LONGEST_NS);
    arrive(&p, now, 5 * US, 1000);
    CHECK_EQ(pace_next(&p).sleep_ns, PACE_DATAGRAMS * 5 * US);
}

static void no_sleep_where_plenty_came_or_little_comes(void)
{
    struct pace p = {0};
    uint64_t now = arrive(&p, 1000 * MS, 10 * US, 500);
    pace_note(&p, now += 10 * US, PACE_PLENTY);
    CHECK_EQ(pace_next(&p).sleep_ns, 0);
    CHECK(pace_next(&p).datagrams > 1);
    pace_note(&p, now += 10 * US, PACE_PLENTY - 1);
    CHECK(pace_next(&p).sleep_ns > 0);
    arrive(&p, now, MS, 10);
    CHECK_EQ(pace_next(&p).sleep_ns, 0);
}

static void a_sleep_is_as_long_as_said(void)
{
    uint64_t before = clock_read().now;
    pace_sleep(PACE_LONGEST_NS, NS_PER_S);
    CHECK(clock_read().now - before >= PACE_LONGEST_NS);
    pace_sleep(999999999, 0); /* not at all */
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(the_first_wait_is_for_one);
    RUN(sparse_traffic_is_not_delayed);
    RUN(dense_traffic_is_waited_for_together);
    RUN(a_wait_in_vain_is_the_last_short_one);
    RUN(a_short_wait_is_slept_through);
    RUN(no_sleep_where_plenty_came_or_little_comes);
    RUN(a_sleep_is_as_long_as_said);
    return test_end("pace");
}
