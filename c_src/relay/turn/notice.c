#include "notice.h"

#include <string.h>

#include "count.h"
#include "post.h"

/* Erlang hears of one, and of none of its kind for so long afterwards. */
#define TELL_NS (10 * NS_PER_S)

static uint64_t counted(const struct shard *sh, enum counter c)
{
    return atomic_load_explicit(&sh->counters[c], memory_order_relaxed);
}

/* Nobody waits for it, so it goes with what goes next. False without room. */
static bool tell(struct shard *sh, const struct ctl_frame *f)
{
    if (!post_has_room(sh))
        return false;
    bool rang = post_calm(sh);
    bool told = post_frame(sh, f);
    post_haste(sh, rang);
    return told;
}

COLD static void tell_over_rate(struct shard *sh, const struct flow *f, bool failures)
{
    uint64_t all = counted(sh, CTR_over_rate);
    struct ctl_frame frame = {.code = CTL_OVER_RATE,
                              .u.over_rate = {.client = f->client,
                                              .failures = failures,
                                              .dropped = all - sh->over_rate.told}};
    if (!tell(sh, &frame))
        return;
    sh->over_rate.told = all;
    sh->over_rate.next = sh->time.now + TELL_NS;
}

void notice_over_rate(struct shard *sh, const struct flow *f, bool failures)
{
    count(sh, CTR_over_rate);
    if (UNLIKELY(sh->over_rate.next <= sh->time.now))
        tell_over_rate(sh, f, failures);
}

COLD static void tell_closed_port(struct shard *sh, const struct session *s, const char *why,
                                  const struct addr *peer)
{
    uint64_t all = counted(sh, CTR_forbidden_peer);
    struct ctl_frame frame = {.code = CTL_CLOSED_PORT,
                              .u.closed_port = {.session = s->id,
                                                .peer = *peer,
                                                .dropped = all - sh->closed_port.told,
                                                .why = ctl_bytes_of(why, strlen(why))}};
    if (!tell(sh, &frame))
        return;
    sh->closed_port.told = all;
    sh->closed_port.next = sh->time.now + TELL_NS;
}

void notice_closed_port(struct shard *sh, struct session *s, const struct permission *perm,
                        const struct addr *peer)
{
    char why[POLICY_TEXT_MAX];
    count_drops(sh, s, CTR_forbidden_peer, 1);
    if (LIKELY(sh->closed_port.next > sh->time.now))
        return;
    policy_why_not_port(sh->policy, (enum reach)perm->reach, peer, why);
    tell_closed_port(sh, s, why, peer);
}
