#include "fronts.h"

#include "post_office.h"

/* NULL where there are neither proxies nor web servers, so that workers need not look. */
static void spread(struct control *c, struct front *front)
{
    for (unsigned i = 0; i < c->worker_count; i++) {
        struct front *held = front_hold(front);
        office_mail(c, i, MAIL_FRONT, &held, sizeof(held));
    }
}

void fronts_set(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_front *m = &f->u.front;
    bool any = m->proxies.len + m->names.len > 0;
    struct front *front = any ? front_make(ctl_cursor(m->proxies), m->datagrams != 0,
                                           ctl_cursor(m->names), m->tells != 0)
                              : NULL;
    if (!c->workers || (any && !front)) {
        front_drop(front);
        pipe_reply(&c->pipe, f, CTL_REFUSED,
                   c->workers ? "malformed proxies or names" : "no CONFIG yet");
        return;
    }
    spread(c, front);
    front_drop(front);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}
