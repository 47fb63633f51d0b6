#include "pace.h"

#include "base.h"

void pace_note(struct pace *p, uint64_t now, uint32_t datagrams)
{
    p->nothing = datagrams == 0;
    p->seen += datagrams;
    uint64_t passed = now - p->since;
    if (passed < PACE_WINDOW_NS)
        return;
    uint64_t gap = p->seen ? passed / p->seen : passed;
    p->gap_ns = (uint32_t)MIN(gap, UINT32_MAX);
    p->since = now;
    p->seen = 0;
}

struct pace_wait pace_next(const struct pace *p)
{
    if (p->nothing || p->gap_ns == 0 || p->gap_ns > PACE_LONGEST_NS)
        return (struct pace_wait){1, 0};
    uint32_t n = MIN(PACE_LONGEST_NS / p->gap_ns + 1, (uint32_t)PACE_DATAGRAMS);
    return (struct pace_wait){n, PACE_LONGEST_NS};
}
