/*
 * How long a worker waits: for several datagrams where they come close together, for the first
 * where they do not, and never in vain twice.
 */
#include "pace.h"
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

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(the_first_wait_is_for_one);
    RUN(sparse_traffic_is_not_delayed);
    RUN(dense_traffic_is_waited_for_together);
    RUN(a_wait_in_vain_is_the_last_short_one);
    return test_end("pace");
}
