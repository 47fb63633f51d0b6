#include "join.h"

#include "conn.h"
#include "peer_tcp.h"
#include "reply.h"
#include "tcp.h"

/* The connection that waits for the answer to its ConnectionBind; NULL without. */
static struct stream *asker(struct shard *sh, uint64_t flow)
{
    const struct pending *p = pending_find(&sh->pending, flow);
    struct stream *s = p && p->holds ? tcp_stream(sh, &p->flow) : NULL;
    return s && s->state == STREAM_OPEN && s->held ? s : NULL;
}

void join_client(struct shard *sh, const struct ctl_frame *f)
{
    const struct ctl_join *m = &f->u.join;
    bool here = m->session >> 56 == sh->config.index;
    struct stream *s = asker(sh, m->flow);
    struct peer_stream *p = here ? peer_tcp_waiting(sh, m->session, m->connection) : NULL;
    if (sh->promise.ref != f->ref) {
        reply(sh, f, m->session, CTL_REFUSED, "no answer came with it");
        return;
    }
    if (!s || (here && !p)) {
        reply(sh, f, m->session, CTL_GONE, "");
        return;
    }
    reply(sh, f, m->session, CTL_OK, ""); /* the answer waits, ahead of all that is relayed */
    if (here) {
        conn_join(sh, s, p);
        return;
    }
    struct mail_join out = {.session = m->session, .connection = m->connection};
    conn_hand_over(sh, s, &out);
}

/* The client hears of it from here: by then they are joined, whatever it does next. What has ended
 * meanwhile ends for the client too. */
void join_arrived(struct shard *sh, const struct mail_join *m, const uint8_t *bytes)
{
    struct peer_stream *p = peer_tcp_waiting(sh, m->session, m->connection);
    struct stream *s = conn_adopt(sh, m, bytes);
    if (s && p && conn_answer(sh, s, bytes + m->raw + m->in, m->answer))
        conn_join(sh, s, p);
    else if (s)
        conn_leave(sh, s);
}
