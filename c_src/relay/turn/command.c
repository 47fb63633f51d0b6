/*
 * What Erlang decided, carried out, in the order the commands came.
 */
#include "command.h"

#include "alloc.h"
#include "answer.h"
#include "granted.h"
#include "join.h"
#include "keep.h"
#include "listen.h"
#include "capture_order.h"
#include "looking.h"
#include "peer_tcp.h"
#include "peers.h"
#include "post.h"
#include "reply.h"
#include "request.h"

static void tune(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_tune *m = &f->u.tune;
    const struct socket_buffers buffers = {m->receive_buffer, m->send_buffer};
    listen_buffers(sh, &buffers);
    sh->config.nonce_lifetime_s = m->nonce_lifetime_s;
    sh->config.nonce_features = m->nonce_features;
    sh->config.channel_max = m->channel_max;
    sh->config.rfc3489 = m->rfc3489 != 0;
    sh->config.shortcuts = m->shortcuts != 0;
}

static void tell(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_tell *m = &f->u.tell;
    const struct session *s = session_by_id(&sh->sessions, m->session);
    if (s && m->packet.len)
        answer_send(sh, &s->flow, m->packet.data, m->packet.len);
}

bool command_frame(struct shard *sh, const uint8_t *data, size_t len)
{
    struct ctl_frame f;
    if (ctl_decode(&f, data, len) != CTL_ERR_NONE)
        return true;  /* the control thread has decoded it before */
    switch (f.code) { /* these have no reply */
    case CTL_ANSWER:
        if (f.u.answer.failed)
            request_failed(sh, f.u.answer.flow);
        request_answer(sh, f.u.answer.flow, f.u.answer.packet.data, f.u.answer.packet.len);
        return true;
    case CTL_ANSWER_IF:
        reply_promise(sh, f.ref, &f.u.answer_if);
        return true;
    case CTL_GRANT:
        granted_give(sh, &f.u.grant);
        return true;
    case CTL_GRANTS: /* the control thread has replied */
        granted_epoch(sh, &f.u.grants);
        return true;
    case CTL_JOURNAL: /* likewise */
        granted_journal(sh, &f.u.journal);
        return true;
    case CTL_NOTE:
        keep_note(sh, &f.u.note);
        return true;
    case CTL_TELL:
        tell(sh, &f);
        return true;
    }
    if (!post_has_room(sh))
        return false;
    switch (f.code) {
    case CTL_PERMIT:
        peers_permit(sh, &f);
        break;
    case CTL_CHANNEL:
        peers_channel(sh, &f);
        break;
    case CTL_ALLOC_REFRESH:
        alloc_refresh(sh, &f);
        break;
    case CTL_ALLOC_DELETE:
        alloc_delete(sh, &f);
        break;
    case CTL_CONNECT:
        peer_tcp_connect(sh, &f);
        break;
    case CTL_DISCONNECT:
        peer_tcp_disconnect(sh, &f);
        break;
    case CTL_JOIN:
        join_client(sh, &f);
        break;
    case CTL_SESSION_INFO:
        return alloc_info(sh, &f);
    case CTL_SESSIONS:
        return alloc_list(sh, &f);
    case CTL_LOOK:
        return looking_ask(sh, &f);
    case CTL_CAPTURE:
        return capture_order(sh, &f);
    case CTL_STATES:
        return keep_states(sh, &f);
    case CTL_UNLISTEN:
        listen_end(sh, f.u.unlisten.listener);
        break;
    case CTL_TUNE:
        tune(sh, &f);
        break;
    default:
        break;
    }
    return true;
}
