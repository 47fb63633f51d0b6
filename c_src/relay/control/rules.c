#include "rules.h"

#include <stdlib.h>
#include <string.h>

#include "post_office.h"

/* Addresses of the host are read again so often: they may come and go. */
enum { RESCAN_MS = 10000 };

/* Every worker gets its own copy, for it frees the one before by itself. */
void rules_spread(struct control *c)
{
    struct addr listeners[LISTENERS_MAX];
    uint32_t n = 0;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used)
            listeners[n++] = c->listeners[i].local;
    const struct host *h = &c->host;
    const struct policy_host host = {
        h->own, h->own_count, h->broadcast, h->broadcast_count, listeners, n};
    for (unsigned i = 0; c->has_rules && i < c->worker_count; i++) {
        struct policy *p = policy_make(c->rules, c->rules_len, &host);
        if (p)
            office_mail(c, i, MAIL_POLICY, &p, sizeof(p));
    }
}

void rules_set(struct control *c, const struct ctl_frame *f)
{
    struct ctl_bytes rules = f->u.policy.rules;
    struct policy *probe = policy_make(rules.data, rules.len, &(struct policy_host){0});
    uint8_t *copy = malloc(rules.len + 1u);
    if (!probe || !copy) {
        policy_free(probe);
        free(copy);
        pipe_reply(&c->pipe, f, CTL_REFUSED, "malformed rules");
        return;
    }
    policy_free(probe);
    if (rules.len)
        memcpy(copy, rules.data, rules.len);
    free(c->rules);
    c->rules = copy;
    c->rules_len = rules.len;
    c->has_rules = true;
    rules_spread(c);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}

void rules_scan_host(struct control *c)
{
    c->next_scan = c->time.now + RESCAN_MS * NS_PER_MS;
    if (host_scan(&c->host))
        rules_spread(c);
}

void rules_destroy(struct control *c)
{
    free(c->rules);
}
