/*
 * What a limit of bandwidth counts: all that is sent for an allocation, also what carries no data.
 */
#include "relay_kit.h"
#include "test.h"

enum { SESSION = 1, LIFETIME_MS = 600000, HEADERS = 28, MS = 10000 };

static struct kit k;

/* Indications that reach the client when so many ICMP errors come each millisecond. */
static unsigned told(struct session *s, const struct io_icmp *icmp, unsigned each)
{
    struct fake_sent sent;
    unsigned n = 0;
    for (int ms = 0; ms < MS; ms++) {
        kit_turn(&k, 1);
        for (unsigned i = 0; i < each; i++)
            fake_io_icmp(k.io, &s->relayed[0].io, icmp);
        while (fake_io_take(k.io, &sent))
            n++;
    }
    return n;
}

static void x83_icmp_indications_are_within_the_limit(void)
{
    enum { EACH = 4, RATE = 28000 };
    kit_start(&k);
    struct session *s = kit_allocate(&k, SESSION, true, false, LIFETIME_MS);
    CHECK_EQ(kit_permit(&k, SESSION, &k.peer, LIFETIME_MS), CTL_OK);
    const struct io_icmp icmp = {.peer = k.peer, .type = 3, .code = 3};
    CHECK_EQ(told(s, &icmp, EACH), EACH * MS); /* no limit, all are told */
    s->rate = bandwidth(RATE);
    session_set_detour(s);
    told(s, &icmp, EACH); /* the burst is spent */
    uint64_t before = kit_count(&k, CTR_over_bandwidth);
    unsigned n = told(s, &icmp, EACH), bytes = n * HEADERS;
    CHECK(bytes >= RATE * (MS / 1000) * 95 / 100 && bytes <= RATE * (MS / 1000) * 105 / 100);
    CHECK_EQ(kit_count(&k, CTR_over_bandwidth) - before, EACH * MS - n);
    CHECK_EQ(session_drops_for(s, CTR_over_bandwidth - CTR_no_channel),
             kit_count(&k, CTR_over_bandwidth));
    kit_stop(&k);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(x83_icmp_indications_are_within_the_limit);
    return test_end("bandwidth");
}
