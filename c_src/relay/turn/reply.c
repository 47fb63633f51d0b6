#include "reply.h"

#include <string.h>

#include "post.h"
#include "request.h"

/* A packet that is too long is forgotten: its client sends the request again. */
void reply_promise(struct shard *sh, uint32_t ref, const struct ctl_answer_if *m)
{
    sh->promise.ref = m->packet.len <= PROMISE_MAX ? ref : 0;
    if (!sh->promise.ref)
        return;
    sh->promise.flow = m->flow;
    sh->promise.len = m->packet.len;
    memcpy(sh->promise.packet, m->packet.data, m->packet.len);
}

/* Says whether the client has its answer now, so that nobody waits for the reply. */
static bool keep_promise(struct shard *sh, uint32_t ref, enum ctl_status status)
{
    struct promise *p = &sh->promise;
    bool kept = p->ref != 0 && p->ref == ref && status == CTL_OK;
    p->ref = 0;
    if (kept)
        request_answer(sh, p->flow, p->packet, p->len);
    return kept;
}

void reply(struct shard *sh, const struct ctl_frame *to, uint64_t session, enum ctl_status status,
           const char *detail)
{
    struct ctl_frame f = {.code = CTL_REPLY,
                          .ref = to->ref,
                          .u.reply = {.command = to->code,
                                      .status = status,
                                      .session = session,
                                      .detail = ctl_bytes_of(detail, strlen(detail))}};
    bool answered = keep_promise(sh, to->ref, status);
    bool rang = sh->rang;
    if (answered)
        rang = post_calm(sh);
    post_frame(sh, &f);
    if (answered)
        post_haste(sh, rang);
}
