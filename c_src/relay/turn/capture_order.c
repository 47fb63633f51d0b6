#include "capture_order.h"

#include <string.h>

#include "capturing.h"
#include "post.h"
#include "reply.h"

enum { PATH_LEN = 1024 };

static enum ctl_status begin(struct shard *sh, struct session *s, const struct ctl_capture *m)
{
    char path[PATH_LEN];
    if (s->tcp || m->lifetime_ms == 0 || m->path.len == 0 || m->path.len >= sizeof(path))
        return CTL_REFUSED;
    memcpy(path, m->path.data, m->path.len);
    path[m->path.len] = '\0';
    if (!s->look && !session_begin_look(&sh->sessions, s, sh->time.now))
        return CTL_FULL;
    return session_begin_capture(&sh->sessions, s,
                                 capture_begin(path, m->bytes, m->bytes_max, m->payload != 0))
               ? CTL_OK
               : CTL_FULL;
}

static bool tell(struct shard *sh, const struct ctl_frame *f, const struct session *s)
{
    const struct capture *c = s->look->capture;
    struct ctl_frame out = {.code = CTL_CAPTURED,
                            .ref = f->ref,
                            .u.captured = {.session = s->id,
                                           .packets = c->packets,
                                           .missed = c->missed,
                                           .bytes = c->bytes,
                                           .full = c->full,
                                           .error = (uint16_t)spool_error(c->spool)}};
    return post_request(sh, &out);
}

bool capture_order(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_capture *m = &f->u.capture;
    struct session *s = session_by_id(&sh->sessions, m->session);
    enum ctl_status status = !s                    ? CTL_GONE
                             : capturing_of(sh, s) ? (m->path.len ? CTL_CONFLICT : CTL_OK)
                                                   : begin(sh, s, m);
    if (status != CTL_OK) {
        reply(sh, f, m->session, status,
              status == CTL_REFUSED    ? "it relays TCP, or nobody captures it"
              : status == CTL_CONFLICT ? "it is captured already"
              : status == CTL_FULL     ? "so many are captured already"
                                       : "");
        return true;
    }
    uint64_t until = shard_in_ms(sh, m->lifetime_ms);
    s->look->capture->until = until;
    s->look->until = MAX(s->look->until, until);
    if (!tell(sh, f, s))
        return false;
    if (m->lifetime_ms == 0)
        session_end_capture(&sh->sessions, s);
    return true;
}
