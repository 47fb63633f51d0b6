#include "listeners.h"

#include <stdio.h>
#include <string.h>

#include "certificates.h"
#include "post_office.h"
#include "rules.h"
#include "takeover.h"
#include "transports.h"

static void listening(struct control *c, uint32_t ref, uint32_t id, enum ctl_status status,
                      const struct addr *local, const char *detail)
{
    struct ctl_frame out = {.code = CTL_LISTENING,
                            .ref = ref,
                            .u.listening = {.listener = id,
                                            .status = status,
                                            .detail = ctl_bytes_of(detail, strlen(detail))}};
    if (local)
        out.u.listening.local = *local;
    pipe_send(&c->pipe, &out);
}

static bool is_realm(struct ctl_bytes realm)
{
    return realm.len > 0 && realm.len < REALM_MAX;
}

/* For one worker, with certificates that it then holds. */
static struct mail_listen mail_of(const struct control *c, const struct ctl_listen *m,
                                  const struct addr *local, int fd)
{
    struct mail_listen ml = {.id = m->listener,
                             .fd = fd,
                             .transport = m->transport,
                             .local = *local,
                             .other = m->other,
                             .certs = certs_hold(c, m->certificates),
                             .realm_len = m->realm.len};
    memcpy(ml.realm, m->realm.data, m->realm.len);
    return ml;
}

/* Realm and other address of a listener that is open, from here on if it was closing. */
static void listen_again(struct control *c, const struct ctl_listen *m, const struct addr *local)
{
    for (unsigned i = 0; i < c->worker_count; i++) {
        struct mail_listen ml = mail_of(c, m, local, -1);
        office_mail(c, i, MAIL_LISTEN, &ml, sizeof(ml));
    }
}

/* One that is open, or one that is closing and has clients still; -1 if there is none. */
static int listener_slot(const struct control *c, uint32_t id, bool closing)
{
    for (int i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used && c->listeners[i].closing == closing && c->listeners[i].id == id)
            return i;
    return -1;
}

static int free_slot(const struct control *c)
{
    for (int i = 0; i < LISTENERS_MAX; i++)
        if (!c->listeners[i].used)
            return i;
    return -1;
}

/* Is it at the address that was asked for? With port 0 any port is. */
static bool is_local(const struct addr *bound, const struct addr *asked)
{
    return addr_ip_equal(bound, asked) && (asked->port == 0 || asked->port == bound->port);
}

/* LISTENING is sent when each worker has said that it listens. By then no mail of a worker about an
 * earlier listener of that number is under way. */
static void await_workers(struct control *c, int slot, uint32_t ref)
{
    c->listeners[slot].closing = false;
    c->listeners[slot].idle = 0;
    c->listeners[slot].opening = true;
    c->listeners[slot].asked = c->worker_count;
    c->listeners[slot].err = 0;
    c->listeners[slot].ref = ref;
}

/* What another program has left, or a new one. */
static int open_group(struct control *c, int type, struct addr *local, int fds[],
                      struct socket_past pasts[])
{
    enum left_kind kind = type == SOCK_DGRAM ? LEFT_DATAGRAMS : LEFT_STREAMS;
    if (left_take_group(&c->takeover.left, kind, local, c->worker_count, fds, pasts))
        return 0;
    return socket_open_group(type, local, c->worker_count, &c->buffers, fds);
}

void listeners_open(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_listen *m = &f->u.listen;
    struct addr local = m->local;
    int fds[WORKERS_MAX];
    int known = listener_slot(c, m->listener, false), slot = free_slot(c);
    if (known < 0)
        known = listener_slot(c, m->listener, true);
    if (known >= 0 && is_local(&c->listeners[known].local, &local) && is_realm(m->realm)) {
        await_workers(c, known, f->ref);
        listen_again(c, m, &c->listeners[known].local);
        return;
    }
    if (!c->workers || known >= 0 || slot < 0 || !transport_of(m->transport) ||
        local.family == ADDR_NONE || !is_realm(m->realm)) {
        listening(c, f->ref, m->listener, CTL_REFUSED, NULL,
                  "no CONFIG yet, id in use, or value out of range");
        return;
    }
    int type = transport_of(m->transport)->datagrams ? SOCK_DGRAM : SOCK_STREAM;
    struct socket_past pasts[WORKERS_MAX] = {{0}};
    int ret = open_group(c, type, &local, fds, pasts);
    if (ret) {
        listening(c, f->ref, m->listener, CTL_FAILED, NULL, strerror(-ret));
        return;
    }
    c->listeners[slot].id = m->listener;
    c->listeners[slot].local = local;
    c->listeners[slot].used = true;
    await_workers(c, slot, f->ref);
    rules_spread(c); /* before the first packet: our own port is no peer */
    for (unsigned i = 0; i < c->worker_count; i++) {
        struct mail_listen ml = mail_of(c, m, &local, fds[i]);
        ml.past = pasts[i];
        office_mail(c, i, MAIL_LISTEN, &ml, sizeof(ml));
    }
}

void listeners_close(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len)
{
    int i = listener_slot(c, f->u.unlisten.listener, false);
    if (i < 0) {
        pipe_reply(&c->pipe, f, CTL_GONE, "");
        return;
    }
    c->listeners[i].closing = true;
    office_mail_all(c, MAIL_FRAME, frame, len);
    pipe_reply(&c->pipe, f, CTL_OK, "");
}

/* If one worker cannot listen all of them stop: the kernel would give it its share of the packets,
 * and they would be lost. */
static void answer(struct control *c, size_t i)
{
    char why[128];
    uint32_t id = c->listeners[i].id, ref = c->listeners[i].ref;
    c->listeners[i].opening = false;
    if (!c->listeners[i].err) {
        takeover_listens(c, id);
        listening(c, ref, id, CTL_OK, &c->listeners[i].local, "");
        return;
    }
    snprintf(why, sizeof(why), "worker %u cannot listen there: %s", c->listeners[i].failed,
             strerror(c->listeners[i].err));
    c->listeners[i].used = false;
    office_mail_all(c, MAIL_OVER, &id, sizeof(id));
    rules_spread(c);
    listening(c, ref, id, CTL_FAILED, NULL, why);
}

void listeners_answer(struct control *c)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->listeners[i].used && c->listeners[i].opening && !c->listeners[i].asked)
            answer(c, i);
}

void listeners_end(struct control *c)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        uint32_t id = c->listeners[i].id;
        if (!c->listeners[i].used || !c->listeners[i].closing ||
            c->listeners[i].idle < c->worker_count)
            continue;
        c->listeners[i].used = false;
        office_mail_all(c, MAIL_OVER, &id, sizeof(id));
        rules_spread(c);
    }
}
