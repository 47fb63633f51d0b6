#include "rules.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "post_office.h"

/* The ports of this host that are no peer: what Erlang names, and listeners. How many. */
static uint32_t list_guarded(const struct control *c, struct addr guarded[])
{
    uint32_t n = 0;
    for (; n < c->rules.guarded_count; n++)
        guarded[n] = c->rules.guarded[n];
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used)
            guarded[n++] = c->listeners[i].local;
    return n;
}

/* One policy for all workers, each with a hold of its own. */
void rules_spread(struct control *c)
{
    struct addr guarded[GUARDED_MAX + LISTENERS_MAX];
    const struct policy_facts facts = {.host = c->watch.host,
                                       .ports = &c->ports,
                                       .guarded = guarded,
                                       .guarded_count = list_guarded(c, guarded)};
    struct policy *p = policy_make(c->rules.bytes, c->rules.len, &facts);
    if (!p) {
        log_error("no memory for a new policy; the program ends, for the one before is wrong");
        pipe_end(&c->pipe, EXIT_SYSTEM);
        return;
    }
    for (unsigned i = 0; i < c->worker_count; i++) {
        struct policy *held = policy_hold(p);
        office_mail(c, i, MAIL_POLICY, &held, sizeof(held));
    }
    policy_drop(p);
}

/* All or none. */
static bool read_guarded(struct rules *r, struct ctl_bytes list)
{
    struct addr guarded[GUARDED_MAX];
    struct bytes cur = ctl_cursor(list);
    uint32_t n = 0;
    while (n < GUARDED_MAX && ctl_next_addr(&cur, &guarded[n]))
        n++;
    if (bytes_left(&cur))
        return false;
    memcpy(r->guarded, guarded, n * sizeof(guarded[0]));
    r->guarded_count = n;
    return true;
}

static bool read_rules(struct rules *r, const struct ctl_policy *m)
{
    struct policy *probe = policy_make(m->rules.data, m->rules.len, &(struct policy_facts){0});
    uint8_t *copy = malloc(m->rules.len + 1u);
    bool ok = probe && copy && read_guarded(r, m->guarded);
    policy_drop(probe);
    if (!ok) {
        free(copy);
        return false;
    }
    if (m->rules.len)
        memcpy(copy, m->rules.data, m->rules.len);
    free(r->bytes);
    r->bytes = copy;
    r->len = m->rules.len;
    return true;
}

void rules_set(struct control *c, const struct ctl_frame *f)
{
    if (!read_rules(&c->rules, &f->u.policy)) {
        pipe_reply(&c->pipe, f, CTL_REFUSED, "malformed rules");
        return;
    }
    rules_spread(c);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}

void rules_destroy(struct control *c)
{
    free(c->rules.bytes);
}
