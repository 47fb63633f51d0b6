#include "judge.h"

/* A turn of the sweep compares a peer with a rule about so often, and gives at least so many
 * verdicts: less than half a millisecond. */
enum { COMPARISONS_A_TURN = 64 * 1024, VERDICTS_MIN = 16, VERDICTS_MAX = 256 };

void judge_note(struct shard *sh, struct permission *p)
{
    char why_not[POLICY_TEXT_MAX];
    p->reach = (uint8_t)policy_reach(sh->policy, &p->ip, why_not);
    p->judged = sh->policy_number;
}

struct permission *judge_again(struct shard *sh, struct permission *p)
{
    if (!p)
        return NULL;
    judge_note(sh, p);
    if (p->reach != REACH_NONE)
        return p;
    permission_remove(&sh->sessions, p);
    return NULL;
}

/* The sweep goes on where it is, for another whole round: policies that follow each other quickly
 * keep it from no permission. */
void judge_policy(struct shard *sh, struct policy *p)
{
    policy_drop(sh->policy);
    sh->policy = p;
    atomic_fetch_add_explicit(&sh->policy_number, 1, memory_order_release);
    offloads_set_epoch(&sh->sessions.offloads, sh->policy_number);
    sh->sweep_left = sh->sessions.permission_slab.touched;
}

static uint32_t verdicts_a_turn(const struct policy *p)
{
    return MIN(MAX(COMPARISONS_A_TURN / (p->rule_count + 1), (uint32_t)VERDICTS_MIN),
               (uint32_t)VERDICTS_MAX);
}

void judge_sweep(struct shard *sh)
{
    const struct slab *slab = &sh->sessions.permission_slab;
    if (LIKELY(!sh->sweep_left))
        return;
    for (uint32_t n = MIN(sh->sweep_left, verdicts_a_turn(sh->policy)); n > 0; n--) {
        sh->sweep_left--;
        sh->sweep_at = sh->sweep_at + 1 < slab->touched ? sh->sweep_at + 1 : 0;
        struct permission *p = slab_at(slab, sh->sweep_at);
        if (p->by_ip.link) /* else it is free */
            judge_used(sh, p);
    }
}
