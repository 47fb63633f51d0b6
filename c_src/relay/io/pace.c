#include "pace.h"

#include <time.h>

#include "base.h"

/* By the time from one datagram to the next. */
static void judge(struct pace *p, uint64_t gap_ns)
{
    p->datagrams = 1;
    if (gap_ns == 0 || gap_ns > PACE_LONGEST_NS)
        return;
    p->datagrams = MIN(PACE_LONGEST_NS / (uint32_t)gap_ns + 1, (uint32_t)PACE_DATAGRAMS);
    p->several_ns = MIN((uint32_t)gap_ns * p->datagrams, (uint32_t)PACE_LONGEST_NS);
}

void pace_note(struct pace *p, uint64_t now, uint32_t datagrams)
{
    p->last = datagrams;
    p->seen += datagrams;
    uint64_t passed = now - p->since;
    if (passed < PACE_WINDOW_NS)
        return;
    judge(p, p->seen ? passed / p->seen : passed);
    p->since = now;
    p->seen = 0;
}

void pace_sleep(uint32_t sleep_ns, uint64_t timeout_ns)
{
    const struct timespec ts = {.tv_nsec = (long)MIN((uint64_t)sleep_ns, timeout_ns)};
    if (ts.tv_nsec)
        nanosleep(&ts, NULL);
}
