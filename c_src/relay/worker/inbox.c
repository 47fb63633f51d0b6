#include "inbox.h"

#include <string.h>

#include "alloc.h"
#include "command.h"
#include "conn.h"
#include "conn_left.h"
#include "handing.h"
#include "join.h"
#include "judge.h"
#include "keep.h"
#include "listen.h"
#include "mail.h"
#include "move.h"
#include "post.h"
#include "shortcuts.h"
#include "udp_proxied.h"

/* Each gets what follows the first byte. Mail lies at odd addresses: it is copied before it is
 * looked into. */

static bool frame(struct shard *sh, const uint8_t *data, uint32_t len)
{
    return command_frame(sh, data, len);
}

static struct mail_listen listen_in(const uint8_t *data)
{
    struct mail_listen m;
    memcpy(&m, data, sizeof(m));
    return m;
}

static bool listener(struct shard *sh, const uint8_t *data, uint32_t len)
{
    const struct mail_listen m = listen_in(data);
    (void)len;
    if (!post_has_room(sh))
        return false;
    listen_mail(sh, &m);
    return true;
}

static bool alloc(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_alloc m;
    (void)len;
    if (!post_has_room(sh))
        return false;
    memcpy(&m, data, sizeof(m));
    alloc_create(sh, &m);
    return true;
}

static struct policy *policy_in(const uint8_t *data)
{
    struct policy *p;
    memcpy(&p, data, sizeof(p));
    return p;
}

static bool policy(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)len;
    judge_policy(sh, policy_in(data));
    return true;
}

static struct front *front_in(const uint8_t *data)
{
    struct front *f;
    memcpy(&f, data, sizeof(f));
    return f;
}

static bool front(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)len;
    front_drop(sh->front);
    sh->front = front_in(data);
    return true;
}

static bool conn(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_conn m;
    (void)len;
    memcpy(&m, data, sizeof(m));
    conn_told(sh, &m);
    return true;
}

static bool proxied(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_proxied m;
    (void)len;
    memcpy(&m, data, sizeof(m));
    udp_proxied_mail(sh, &m, data + sizeof(m));
    return true;
}

static bool move(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_move m;
    (void)len;
    if (!post_has_room(sh))
        return false;
    memcpy(&m, data, sizeof(m));
    move_session(sh, &m);
    return true;
}

static bool roam(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_roam m;
    (void)len;
    memcpy(&m, data, sizeof(m));
    move_roamer(sh, &m);
    return true;
}

static bool carry(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_carry m;
    (void)len;
    memcpy(&m, data, sizeof(m));
    move_carried(sh, &m, data + sizeof(m));
    return true;
}

static struct mail_join join_in(const uint8_t *data)
{
    struct mail_join m;
    memcpy(&m, data, sizeof(m));
    return m;
}

static bool join(struct shard *sh, const uint8_t *data, uint32_t len)
{
    const struct mail_join m = join_in(data);
    (void)len;
    join_arrived(sh, &m, data + sizeof(m));
    return true;
}

static bool seek(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_seek m;
    (void)len;
    memcpy(&m, data, sizeof(m));
    shortcut_asked(sh, &m);
    return true;
}

static bool shortcut(struct shard *sh, const uint8_t *data, uint32_t len)
{
    struct mail_shortcut m;
    (void)len;
    memcpy(&m, data, sizeof(m));
    shortcut_told(sh, &m);
    return true;
}

static bool over(struct shard *sh, const uint8_t *data, uint32_t len)
{
    uint32_t id;
    (void)len;
    memcpy(&id, data, sizeof(id));
    listen_over(sh, id);
    return true;
}

static bool forget(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)data, (void)len;
    return keep_forget(sh);
}

static bool hold(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)data, (void)len;
    handing_hold(sh);
    return true;
}

static bool read_box(struct shard *sh, struct mailbox *box);

/* All workers stood still when this was sent. Letters from before that may have come since letters
 * were read in this turn, and say where datagrams belong: they are read first. */
static bool go_on(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)data, (void)len;
    read_box(sh, &sh->letters.box);
    handing_go_on(sh);
    return true;
}

static bool hand(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)data, (void)len;
    return handing_hand(sh);
}

static struct left_conn *left_in(const uint8_t *data)
{
    struct left_conn *c;
    memcpy(&c, data, sizeof(c));
    return c;
}

static bool left(struct shard *sh, const uint8_t *data, uint32_t len)
{
    (void)len;
    conn_left_take(sh, left_in(data));
    return true;
}

/* False when the mail must wait. */
static bool (*const readers[])(struct shard *sh, const uint8_t *data, uint32_t len) = {
    [MAIL_FRAME] = frame,   [MAIL_LISTEN] = listener,   [MAIL_ALLOC] = alloc,
    [MAIL_POLICY] = policy, [MAIL_MOVE] = move,         [MAIL_ROAM] = roam,
    [MAIL_CARRY] = carry,   [MAIL_OVER] = over,         [MAIL_FRONT] = front,
    [MAIL_CONN] = conn,     [MAIL_PROXIED] = proxied,   [MAIL_JOIN] = join,
    [MAIL_SEEK] = seek,     [MAIL_SHORTCUT] = shortcut, [MAIL_FORGET] = forget,
    [MAIL_HOLD] = hold,     [MAIL_GO_ON] = go_on,       [MAIL_HAND] = hand,
    [MAIL_LEFT] = left,
};

static bool read_box(struct shard *sh, struct mailbox *box)
{
    uint32_t len;
    const uint8_t *record;
    while ((record = mailbox_peek(box, &len))) {
        if (!readers[record[0]](sh, record + 1, len - 1))
            return false;
        mailbox_consume(box);
    }
    return true;
}

/* Handling a letter needs no room in any mailbox, so letters are read even when mail has to wait.
 */
bool inbox_read(struct shard *sh)
{
    read_box(sh, &sh->letters.box);
    return read_box(sh, &sh->in);
}

/* A policy, a front, certificates, a session of TLS and a connection that are still in a mailbox
 * have no other owner: they are freed here. Other descriptors end with the program. */
void inbox_discard(struct shard *sh)
{
    const uint8_t *record;
    uint32_t len;
    while (sh->in.buf && (record = mailbox_peek(&sh->in, &len))) {
        if (record[0] == MAIL_POLICY)
            policy_drop(policy_in(record + 1));
        if (record[0] == MAIL_FRONT)
            front_drop(front_in(record + 1));
        if (record[0] == MAIL_LISTEN)
            tls_store_release(listen_in(record + 1).certs);
        if (record[0] == MAIL_LEFT)
            left_conn_end(left_in(record + 1));
        mailbox_consume(&sh->in);
    }
    while (sh->letters.box.buf && (record = mailbox_peek(&sh->letters.box, &len))) {
        if (record[0] == MAIL_JOIN)
            tls_free(join_in(record + 1).tls);
        mailbox_consume(&sh->letters.box);
    }
}
