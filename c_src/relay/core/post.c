#include "post.h"

#include <string.h>

#include "tls.h"

/* How long a frame that nobody waits for may wait for others to be sent with. */
#define CALM_NS NS_PER_MS

enum { COMMAND_ROOM = 1024 };

bool post_has_room(struct shard *sh)
{
    return mailbox_room(&sh->out) >= COMMAND_ROOM;
}

/* A frame whose bytes fields have no more than so many bytes together. */
static bool post(struct shard *sh, const struct ctl_frame *f, uint32_t bytes_max)
{
    uint32_t max = 1 + CTL_PLAIN_MAX + bytes_max;
    uint8_t *record = mailbox_reserve(&sh->out, max);
    if (!record)
        return false;
    record[0] = MAIL_FRAME;
    size_t len = ctl_encode(f, record + 1, max - 1);
    mailbox_commit(&sh->out, record, (uint32_t)(1 + len));
    sh->rang = true;
    return true;
}

bool post_frame(struct shard *sh, const struct ctl_frame *f)
{
    return post(sh, f, 256);
}

/* A request, and the certificate that its client has shown. */
enum { ASKED_MAX = REQUEST_MAX + TLS_CLIENT_CERT_MAX };

bool post_may_ask(struct shard *sh)
{
    return mailbox_room(&sh->out) >= 1 + CTL_PLAIN_MAX + ASKED_MAX + MAIL_RESERVE;
}

bool post_request(struct shard *sh, const struct ctl_frame *f)
{
    return post_may_ask(sh) && post(sh, f, ASKED_MAX);
}

bool post_mail(struct shard *sh, enum mail kind, const void *data, size_t len, const void *more,
               size_t more_len, uint32_t reserve)
{
    uint32_t need = (uint32_t)(1 + len + more_len);
    uint8_t *record =
        mailbox_room(&sh->out) < need + reserve ? NULL : mailbox_reserve(&sh->out, need);
    if (!record)
        return false;
    record[0] = (uint8_t)kind;
    if (len)
        memcpy(record + 1, data, len);
    if (more_len)
        memcpy(record + 1 + len, more, more_len);
    mailbox_commit(&sh->out, record, need);
    sh->rang = true;
    return true;
}

bool post_letter(struct shard *sh, unsigned to, enum mail kind, const void *data, size_t len,
                 const void *more, size_t more_len)
{
    struct shard *neighbour = sh->config.neighbours[to];
    if (!letters_put(&neighbour->letters, (uint8_t)kind, data, len, more, more_len))
        return false;
    sh->wrote[to] = sh->wrote_any = true;
    return true;
}

void post_wake(struct shard *sh)
{
    if (LIKELY(!sh->wrote_any))
        return;
    sh->wrote_any = false;
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (!sh->wrote[i])
            continue;
        sh->wrote[i] = false;
        io_wake(sh->config.neighbours[i]->io);
    }
}

bool post_calm(struct shard *sh)
{
    bool rang = sh->rang;
    sh->rang = false;
    return rang;
}

void post_haste(struct shard *sh, bool rang)
{
    if (sh->rang && !sh->ring_at)
        sh->ring_at = sh->time.now + CALM_NS;
    sh->calm = sh->calm || sh->rang;
    sh->rang = rang;
}
