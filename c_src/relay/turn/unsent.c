#include "unsent.h"

#include <errno.h>

#include "count.h"
#include "frame.h"
#include "shortcuts.h"

/* Is there no room, or can it not be sent at all? */
static enum counter reason_of(int err)
{
    return err == ENOBUFS || err == EAGAIN || err == ENOMEM ? CTR_send_queue_full : CTR_send_failed;
}

void unsent_to_peer(struct shard *sh, struct session *s, const struct io_unsent *u)
{
    s->client_packets--;
    s->client_bytes -= u->len;
    count_back(sh, CTR_peer_sent_packets, 1);
    count_back(sh, CTR_peer_sent_bytes, u->len);
    count_drops(sh, s, reason_of(u->err), 1);
}

void unsent_to_client(struct shard *sh, const struct flow *f, const struct io_unsent *u)
{
    count_back(sh, CTR_client_sent_packets, 1);
    count_back(sh, CTR_client_sent_bytes, u->len);
    unsent_message(sh, f, reason_of(u->err), u->start, u->start_len);
}

void unsent_message(struct shard *sh, const struct flow *f, enum counter reason,
                    const uint8_t *start, size_t start_len)
{
    struct frame_media media;
    if (frame_carries(start, start_len, &media))
        unsent_media(sh, f, reason, 1, media.payload);
    else
        count(sh, reason);
}

/* What was queued is counted as sent by its session, which is taken back here. Without a session it
 * came by a shortcut, or the session has ended and only the drop is counted. */
void unsent_media(struct shard *sh, const struct flow *f, enum counter reason, uint64_t n,
                  uint64_t payload)
{
    struct session *s = session_find(&sh->sessions, f);
    if (!s) {
        if (!shortcut_unsent(sh, f, reason, n, payload))
            count_n(sh, reason, n);
        return;
    }
    session_collect(&sh->sessions, s);
    s->peer_packets -= MIN(n, s->peer_packets);
    s->peer_bytes -= MIN(payload, s->peer_bytes);
    count_drops(sh, s, reason, n);
}
