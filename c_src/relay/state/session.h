/*
 * Allocations as a worker keeps them, by 5-tuple and by id, with their relayed sockets; and what
 * hangs on one: permissions by peer IP, channels by number and by peer (RFC 8656 9, 12).
 *
 * Everything has a deadline that whoever uses it compares with `now`; the wheel sweeps later.
 * Belongs to one worker. Knows no messages and sends nothing.
 */
#ifndef MEERKAT_SESSION_H
#define MEERKAT_SESSION_H

#include <stdalign.h>

#include "bucket.h"
#include "bytes.h"
#include "grant.h"
#include "list.h"
#include "look.h"
#include "offloads.h"
#include "policy.h"
#include "shortcut.h"
#include "slab.h"
#include "table.h"
#include "tcp_relay.h"
#include "timer.h"
#include "transport.h"

enum direction { TO_PEER = 0, TO_CLIENT = 1 };
/* Who was found a moment ago is looked at first: places for that, powers of two. */
enum { RECENT_SESSIONS = 1024, RECENT_CHANNELS = 4 };
enum { SHORTCUTS_EACH = 64 }; /* to further peers a session has the long way */
enum gone_reason { GONE_DELETED = 0, GONE_EXPIRED = 1, GONE_SOCKET = 2, GONE_CLOSED = 3 };

/* One relayed address. */
struct relayed {
    struct io_socket io;
    struct session *session;
    struct pool *pool; /* NULL: this family is not relayed */
    uint16_t port;
    bool open;         /* the io has it */
    uint64_t deadline; /* of this family */
};

/* RFC 8016: where a session's client may appear next. */
struct move {
    struct flow flow;
    unsigned home; /* the worker its datagrams would come to */
};

/* What the next Erlang is to be told of a session; means nothing here. */
struct session_note {
    uint32_t len;
    uint8_t bytes[];
};

/* In the order in which a datagram needs it, the cold part last; lines of the cache are 64 bytes.
 */
struct session {
    alignas(64) struct table_node by_tuple;
    struct flow flow;
    uint64_t expires; /* the last deadline of a family */
    bool dying;
    bool ended;  /* its client said so in this turn: it is in sessions.ended */
    bool detour; /* its packets have more to pass than those of most: see session_set_detour */
    uint8_t reason;
    uint8_t shortcut_count; /* those that know nothing included */
    unsigned flow_home;     /* the worker its client's datagrams come to */
    struct rate rate;       /* of this allocation alone */
    struct rate pace;       /* likewise, in packets */
    struct shared_bucket *user;

    uint64_t client_packets, client_bytes; /* from the client, relayed */
    uint64_t peer_packets, peer_bytes;     /* from peers, relayed */
    struct bucket own[2];                  /* by direction; see session_bucket */
    struct bucket paced[2];                /* likewise; see session_paced */
    struct list channels;

    struct channel *recent_number[RECENT_CHANNELS], *recent_peer[RECENT_CHANNELS];
    struct relayed relayed[2]; /* IPv4, IPv6 */

    struct table_node by_id;
    struct timer timer; /* the next deadline of a family */
    uint64_t id;
    struct list permissions;
    struct list in_gone;         /* a socket of it is closed, and that not reported yet; or ended */
    struct move *move;           /* NULL: none is pending */
    struct tcp_relay *tcp;       /* NULL: it relays UDP, at `relayed` */
    struct grant *grant;         /* NULL: every request is Erlang's to answer */
    struct far_end *far;         /* what shortcuts to it hold; NULL: there was none yet */
    struct shortcut *shortcuts;  /* of its client's packets */
    struct session_note *note;   /* NULL: its client was told of nothing yet, or nobody wants any */
    struct sight *look;          /* NULL: nobody looks at its packets */
    struct offloaded *offloaded; /* what it has in the kernel */
    uint64_t offload_seen;       /* packets both ways when it was looked at last: offloading.c */
    uint64_t offload_again;      /* nothing more is put there before */
    uint64_t *drops;             /* by reason; NULL: there was none yet */
    uint64_t asked;              /* number of the request that Erlang was handed last (pending.h) */
    uint32_t permission_count, channel_count; /* also those that are over and not swept yet */
};

struct permission {
    struct table_node by_ip;
    struct session *session;
    struct addr ip;  /* port 0 */
    uint8_t reach;   /* enum reach; but for REACH_ALL every port must be asked for */
    uint32_t judged; /* the number of the policy that is from */
    struct timer timer;
    struct list in_session;
};

struct channel {
    struct table_node by_number;
    struct table_node by_peer;
    struct session *session;
    struct permission *permission; /* last found for it, perhaps gone since */
    struct addr peer;
    uint16_t number;
    uint32_t shortcut; /* its place + 1, last found likewise; 0: none was */
    struct timer timer;
    struct list in_session;
};

struct sessions {
    struct slab session_slab, move_slab, grant_slab, drops_slab, permission_slab, channel_slab;
    struct table by_tuple, by_id, permissions, channel_numbers, channel_peers;
    struct shortcuts shortcuts;
    struct far_ends far_ends;
    struct offloads offloads;
    struct timers timers;
    struct list gone;
    struct list ended; /* by in_gone */
    uint32_t looks;    /* so many sessions are looked at ... */
    uint32_t captures; /* ... and so many captured */
    const struct ways *ways;
    struct session *recent[RECENT_SESSIONS]; /* perhaps gone since */
};

/* False without address space. Room for the totals, though memory only for what is used. */
bool sessions_init(struct sessions *t, const struct ways *ways, uint32_t sessions_max,
                   uint32_t peers_max, uint64_t now);
void sessions_destroy(struct sessions *t);

/*
 * What was found last stands in a place that costs no secret hash to find. It is looked at, not
 * trusted: objects never leave their slab, and one that is gone is in no table. Strangers who
 * choose addresses that meet in a place gain nothing but the way through the table.
 */
static inline struct session **session_recent(struct sessions *t, const struct addr *client)
{
    uint64_t h = (load64(client->ip + 8) ^ (uint64_t)client->port << 32) * 0x9e3779b97f4a7c15u;
    return &t->recent[h >> 48 & (RECENT_SESSIONS - 1)];
}

/* Through the table. */
struct session *session_look_up(struct sessions *t, const struct flow *f);

/* NULL when there is none; a dying one is not found. */
static inline struct session *session_find(struct sessions *t, const struct flow *f)
{
    struct session *s = *session_recent(t, &f->client);
    return LIKELY(s && s->by_tuple.link && flow_equal(&s->flow, f)) ? s : session_look_up(t, f);
}

/* The one that answers by this very way: another client's may have had the same 5-tuple before. */
static inline struct session *session_by_way(struct sessions *t, const struct flow *f)
{
    struct session *s = session_find(t, f);
    return s && s->flow.way.number == f->way.number ? s : NULL;
}

struct session *session_by_id(const struct sessions *t, uint64_t id);

/* NULL when the table is full. The caller has seen that neither id nor 5-tuple is taken, fills in
 * what is relayed and the timer's due, and calls session_set_timer. */
struct session *session_create(struct sessions *t, uint64_t id, const struct flow *f);

/* Its client has ended it: nothing is relayed any more, and its ports are closed at the end of the
 * turn (alloc_end_what_ended). Once for a session, and of one that is alive. */
void session_ended(struct sessions *t, struct session *s);

/* First step of the end: no packet finds it, nor its permissions and channels, any more. The
 * caller closes the sockets and then calls session_free. */
void session_kill(struct sessions *t, struct session *s, enum gone_reason reason);
void session_free(struct sessions *t, struct session *s);

static inline bool session_alive(const struct session *s, uint64_t now)
{
    return !s->dying && s->expires > now;
}

/* The relayed address for peers of a family, or NULL unless it lives. */
static inline struct relayed *session_relayed(struct session *s, uint8_t family, uint64_t now)
{
    struct relayed *r = &s->relayed[family == ADDR_V6];
    return r->open && !r->io.removing && r->deadline > now ? r : NULL;
}

/* Does it relay for peers of that family, over UDP or TCP? */
static inline bool session_relays(struct session *s, uint8_t family, uint64_t now)
{
    if (UNLIKELY(s->tcp))
        return s->tcp->open && s->tcp->family == family && s->tcp->deadline > now;
    return session_relayed(s, family, now) != NULL;
}

/* Sets what session_alive and the sweep go by, after a deadline of a family changed. */
void session_set_timer(struct sessions *t, struct session *s);

/* What a shortcut to it was told, and what it has in the kernel, does not hold any more: something
 * has ended, moved or become less than it was. Whoever changes that here says so by himself. */
static inline void session_changed(struct session *s)
{
    far_end_change(s->far);
    if (UNLIKELY(s->offloaded != NULL))
        offloads_void(s->offloaded);
}

/* Of a family; session_set_timer follows. */
static inline void session_set_deadline(struct session *s, struct relayed *r, uint64_t deadline)
{
    if (deadline < r->deadline)
        session_changed(s);
    r->deadline = deadline;
}

/* Counts so many for a reason, by its place. Most sessions never drop any. */
void session_drop(struct sessions *t, struct session *s, unsigned reason, uint64_t n);
/* How many there were. */
static inline uint64_t session_drops_for(const struct session *s, unsigned reason)
{
    return s->drops ? s->drops[reason] : 0;
}

/* Adds what others have counted for it to what is counted here. Before anybody is told. */
void session_collect(struct sessions *t, struct session *s);
/* For all reasons together. */
uint64_t session_dropped(const struct session *s);

/* Takes what it has in the kernel apart, or what of that is void; collected before. */
void session_drop_offloaded(struct sessions *t, struct session *s, bool all);

/* The end that shortcuts to it hold, made where there is none; NULL when the table is full. */
struct far_end *session_far_end(struct sessions *t, struct session *s);

/* What limits one direction of the allocation alone. Towards the client others may take, too. */
static inline struct bucket *session_bucket(struct session *s, enum direction d)
{
    return UNLIKELY(s->far && d == TO_CLIENT) ? &s->far->bucket : &s->own[d];
}

static inline struct bucket *session_paced(struct session *s, enum direction d)
{
    return UNLIKELY(s->far && d == TO_CLIENT) ? &s->far->paced : &s->paced[d];
}

/* The shortcut to that peer, perhaps a new one that knows nothing; NULL when the session has as
 * many as it may, or the table is full. */
struct shortcut *session_shortcut(struct sessions *t, struct session *s, const struct addr *peer);
/* NULL where there is none; found for the next time as well. */
struct shortcut *channel_shortcut(const struct sessions *t, struct channel *c);

/* The client speaks by another way. */
void session_learn_way(struct sessions *t, struct session *s, const struct flow *seen);

/* Makes or replaces what is pending: there is room for one in each session. */
void session_set_move(struct sessions *t, struct session *s, const struct flow *f, unsigned home);
/* Takes the 5-tuple the session was moved to as its only one. */
void session_commit_move(struct sessions *t, struct session *s);
/* Harmless where none is pending. */
void session_drop_move(struct sessions *t, struct session *s);

/* Makes or replaces the grant. Without memory there is none. */
void session_set_grant(struct sessions *t, struct session *s, const struct grant *g);
/* Harmless where there is none. */
void session_drop_grant(struct sessions *t, struct session *s);

/* Makes or replaces the note. Without memory there is none. */
void session_set_note(struct session *s, const uint8_t *bytes, uint32_t len);

/* Packets of a session with a limit of its own or its user's, or one that is looked at, go by a
 * function of their own. It is one flag, so that all others pay for none of these. After any of
 * them has changed. */
static inline void session_set_detour(struct session *s)
{
    s->detour = s->rate.unit || s->pace.unit || s->user || s->look;
}

/* Somebody looks at it from here on; false where too many are looked at already, or without
 * memory. Shortcuts to it end: who sends by one is not seen here. */
bool session_begin_look(struct sessions *t, struct session *s, uint64_t now);
/* Harmless where nobody does. */
void session_end_look(struct sessions *t, struct session *s);

/* One that is looked at is captured as well, with what capture_begin has made (NULL: nothing);
 * false where too many are captured already, and then that has ended. */
bool session_begin_capture(struct sessions *t, struct session *s, struct capture *c);
/* Harmless where it is not. */
void session_end_capture(struct sessions *t, struct session *s);

/* Permissions and channels of a family, gone with its relayed address. */
void session_forget_family(struct sessions *t, struct session *s, uint8_t family);

/* As bound. */
struct addr relayed_local(const struct relayed *r);
/* The same as clients are told it. */
struct addr relayed_advertised(const struct relayed *r);

/* NULL unless it lives at `now`. */
struct permission *permission_find(const struct sessions *t, const struct session *s,
                                   const struct addr *peer, uint64_t now);
/* Has it a place in the table, alive or not swept yet? Then permission_set cannot fail. */
bool permission_exists(const struct sessions *t, const struct session *s, const struct addr *peer);
/* Installs or renews; NULL when the table is full. */
struct permission *permission_set(struct sessions *t, struct session *s, const struct addr *peer,
                                  uint64_t deadline);
void permission_remove(struct sessions *t, struct permission *p);

/* NULL unless it lives at `now`. */
struct channel *channel_by_number(const struct sessions *t, struct session *s, uint16_t number,
                                  uint64_t now);
struct channel *channel_by_peer(const struct sessions *t, struct session *s,
                                const struct addr *peer, uint64_t now);
/* The permission of its peer; NULL unless that lives at `now`. */
struct permission *channel_permission(const struct sessions *t, struct channel *c, uint64_t now);
/* Binds or renews; NULL when the table is full. The caller has ruled out a conflict. */
struct channel *channel_set(struct sessions *t, struct session *s, uint16_t number,
                            const struct addr *peer, uint64_t deadline);
void channel_remove(struct sessions *t, struct channel *c);

#endif
