/*
 * Permissions held against the policy in force. A new policy makes every verdict before it old; an
 * old one is given anew when the permission is used next, and by a sweep of some in each turn. So
 * what a new policy forbids stops at once (threat X16), and no turn is the longer for it, however
 * many permissions and rules there are.
 */
#ifndef MEERKAT_JUDGE_H
#define MEERKAT_JUDGE_H

#include "shard.h"

/* MAIL_POLICY: the shard owns it from here on. */
void judge_policy(struct shard *sh, struct policy *p);

/* Gives verdicts anew, so many as a turn may take. */
void judge_sweep(struct shard *sh);

/* Notes that the verdict of this permission is by the policy in force. */
void judge_note(struct shard *sh, struct permission *p);

/* As judge_used, for a permission whose verdict is old, or NULL. */
struct permission *judge_again(struct shard *sh, struct permission *p);

/* A permission that was found, before it is used: NULL, and it is gone, when the policy in force
 * forbids its peer. */
static inline struct permission *judge_used(struct shard *sh, struct permission *p)
{
    return LIKELY(p && p->judged == sh->policy_number) ? p : judge_again(sh, p);
}

#endif
