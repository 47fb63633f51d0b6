/*
 * The relay's front door and everything behind it: datagrams of clients and peers, what Erlang
 * commands and how it answers, reports of ICMP, moves and time, in any order, on a worker with the
 * fake io. The input is a byte of settings and a list of steps:
 *
 *   u8 what, u16 length, bytes
 *
 * A small governor stands in for Erlang: requests that pass the challenge are granted what they
 * ask for. The mutator knows steps and messages, and gives a message it has changed the nonce, the
 * signature and the fingerprint that it needs to get anywhere.
 *
 * What must hold, whatever comes:
 *   - a stranger gets at most one answer, hardly longer than his question, and leaves no state;
 *   - a request handed to Erlang is well-formed, signed and made with a nonce of its sender's;
 *   - nothing goes to a peer, or comes from one, without a live permission of that session's, and
 *     never to a listener, to port 0, to itself, or where policy forbids it;
 *   - when all is over nothing is left: no session, permission, channel, port, timer or credit.
 */
#include "fuzz.h"
#include "relay_kit.h"

enum { FROM_CLIENT, FROM_PEER, COMMAND, TIME, OTHER_CLIENT, SIGN, POLICY, MOVE, ICMP, STEPS };

/* Settings of a run. */
enum {
    ALLOCATED = 1, /* session 42 is there, with two channels */
    DISCOVERY = 2, /* RFC 5780 */
    LIMITED = 4,   /* strangers get ten answers and no more */
    DEAF = 8,      /* Erlang answers nothing */
};

enum { FIRST = 42, STRANGERS_SHARE = 10, MESSAGE_MAX = 1024, REALM_LEN = 11 };

static const char realm[] = "example.org", user[] = "u", key[] = "key";
static struct kit k;
static uint8_t settings;
static uint64_t last_session;
static unsigned strangers_answered;
static uint32_t started_s;

/* ---------------------------------------------------------------------- what is granted to whom */

static struct permit {
    uint64_t session, until;
    struct addr ip;
} permits[512];
static size_t permits_used;
static bool lost_count; /* more permits than are kept here: nothing is known any more */
static struct addr denied;

static void permit(uint64_t session, const struct addr *ip, uint32_t ms)
{
    struct permit *place = NULL;
    uint64_t now = k.worker.shard.time.now;
    for (size_t i = 0; i < permits_used; i++) {
        struct permit *g = &permits[i];
        if (g->session == session && addr_ip_equal(&g->ip, ip)) {
            place = g;
            break;
        }
        if (!place && g->until <= now)
            place = g;
    }
    if (!place && permits_used < ARRAY_SIZE(permits))
        place = &permits[permits_used++];
    if (place)
        *place = (struct permit){session, now + ms * NS_PER_MS, *ip};
    else
        lost_count = true;
}

/* Of the session, where that is not 0, and of the family, where that is not 0. */
static void revoke(uint64_t session, uint8_t family, const struct addr *ip)
{
    for (size_t i = 0; i < permits_used; i++) {
        struct permit *g = &permits[i];
        if ((!session || g->session == session) && (!family || g->ip.family == family) &&
            (!ip || addr_ip_equal(&g->ip, ip)))
            *g = (struct permit){0};
    }
}

static bool permitted(uint64_t session, const struct addr *ip)
{
    for (size_t i = 0; i < permits_used; i++)
        if (permits[i].session == session && addr_ip_equal(&permits[i].ip, ip) &&
            permits[i].until > k.worker.shard.time.now)
            return true;
    return lost_count;
}

/* What the relay replied ok to. */
static void note_granted(const struct ctl_frame *f)
{
    switch (f->code) {
    case CTL_PERMIT: {
        struct bytes list = ctl_cursor(f->u.permit.peers);
        struct addr peer;
        while (ctl_next_addr(&list, &peer))
            permit(f->u.permit.session, &peer, f->u.permit.lifetime_ms);
        break;
    }
    case CTL_CHANNEL:
        permit(f->u.channel.session, &f->u.channel.peer, f->u.channel.permission_ms);
        break;
    case CTL_ALLOC_REFRESH:
        if (f->u.alloc_refresh.lifetime_ms == 0)
            revoke(f->u.alloc_refresh.session, f->u.alloc_refresh.family, NULL);
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------------------ what was sent */

/* A datagram out of a relayed address. */
static void check_to_peer(const struct fake_sent *sent)
{
    const struct relayed *r = container_of(sent->socket, struct relayed, io);
    FUZZ_ASSERT(permitted(r->session->id, &sent->to));
    FUZZ_ASSERT(sent->to.port != 0);
    FUZZ_ASSERT(!addr_equal(&sent->to, &k.server));
    FUZZ_ASSERT(!denied.family || !addr_ip_equal(&sent->to, &denied));
    struct addr self = relayed_local(r);
    FUZZ_ASSERT(!addr_equal(&sent->to, &self));
}

/* At most one answer, to whoever asked and not much longer than what he said: RESPONSE-PORT may
 * turn it to another port of his. */
static void check_to_client(const struct fake_sent *sent, size_t asked, bool stranger)
{
    FUZZ_ASSERT(addr_ip_equal(&sent->to, &k.client));
    if (!stranger)
        return;
    FUZZ_ASSERT(sent->len <= 128 || (settings & DISCOVERY && sent->len <= asked + 128));
    strangers_answered++;
    uint64_t seconds = k.worker.shard.time.wall_s - started_s;
    FUZZ_ASSERT(!(settings & LIMITED) || strangers_answered <= STRANGERS_SHARE + seconds + 1);
}

static bool is_listeners(const struct io_socket *s)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (s == &k.worker.shard.listeners[i].io)
            return true;
    return false;
}

static void after_client(size_t asked, bool stranger)
{
    struct fake_sent sent;
    for (unsigned n = 0; fake_io_take(k.io, &sent); n++) {
        FUZZ_ASSERT(n == 0);
        if (!is_listeners(sent.socket))
            check_to_peer(&sent);
        else
            check_to_client(&sent, asked, stranger);
    }
}

/* What a peer said, or ICMP of it, reaches the session's client or nobody. */
static void after_peer(const struct session *s, const struct addr *peer)
{
    struct fake_sent sent;
    for (unsigned n = 0; fake_io_take(k.io, &sent); n++) {
        FUZZ_ASSERT(n == 0);
        FUZZ_ASSERT(is_listeners(sent.socket));
        FUZZ_ASSERT(addr_equal(&sent.to, &s->flow.client));
        FUZZ_ASSERT(permitted(s->id, peer));
    }
}

/* ------------------------------------------------------------------------------------- Erlang */

static void hear(void);

static enum ctl_status ask(struct ctl_frame *f)
{
    enum ctl_status status = (enum ctl_status)kit_ask(&k, f);
    if (status == CTL_OK)
        note_granted(f);
    return status;
}

static void grant_permissions(uint64_t session, const struct stun_view *v)
{
    uint8_t list[512];
    struct wbytes w = wbytes_of(list, sizeof(list));
    struct stun_iter it;
    struct addr peer;
    stun_iter_init(&it, v);
    for (unsigned n = 0; n < 16 && stun_iter_next(&it);)
        if (it.id == A_xor_peer_address && stun_iter_addr(&it, &peer) == STUN_OK) {
            ctl_put_addr(&w, &peer);
            n++;
        }
    struct ctl_frame f = {.code = CTL_PERMIT,
                          .u.permit = {.session = session,
                                       .lifetime_ms = 300000,
                                       .peers = ctl_bytes_of(list, wbytes_len(&w))}};
    ask(&f);
}

static void grant_channel(uint64_t session, const struct stun_view *v)
{
    uint64_t number;
    struct ctl_frame f = {
        .code = CTL_CHANNEL,
        .u.channel = {.session = session, .lifetime_ms = 600000, .permission_ms = 300000}};
    if (stun_get_uint(v, A_channel_number, &number) == STUN_OK &&
        stun_get_addr(v, A_xor_peer_address, &f.u.channel.peer) == STUN_OK) {
        f.u.channel.number = (uint16_t)number;
        ask(&f);
    }
}

static void grant_refresh(uint64_t session, const struct stun_view *v)
{
    uint64_t lifetime = 600, family = 0;
    stun_get_uint(v, A_lifetime, &lifetime);
    stun_get_uint(v, A_requested_address_family, &family);
    struct ctl_frame f = {.code = CTL_ALLOC_REFRESH,
                          .u.alloc_refresh = {.session = session,
                                              .family = family == 1   ? ADDR_V4
                                                        : family == 2 ? ADDR_V6
                                                                      : 0,
                                              .lifetime_ms = (uint32_t)(lifetime % 3600) * 1000}};
    ask(&f);
}

static void govern(uint64_t flow, uint64_t session, const struct stun_view *v)
{
    switch (v->method) {
    case STUN_ALLOCATE:
        if (!session)
            kit_allocate(&k, ++last_session, !stun_has(v, A_requested_address_family),
                         stun_has(v, A_requested_address_family) ||
                             stun_has(v, A_additional_address_family),
                         600000);
        break;
    case STUN_REFRESH:
        grant_refresh(session, v);
        break;
    case STUN_CREATE_PERMISSION:
        grant_permissions(session, v);
        break;
    default:
        grant_channel(session, v);
    }
    hear();
    struct stun_builder b;
    uint8_t out[256];
    stun_build_response(&b, out, sizeof(out), STUN_SUCCESS, v);
    stun_put_integrity(&b, key, sizeof(key) - 1);
    struct ctl_frame f = {
        .code = CTL_ANSWER,
        .u.answer = {.flow = flow, .packet = ctl_bytes_of(out, stun_build_end(&b))}};
    kit_command(&k, &f);
}

static void take_request(const struct ctl_request *m)
{
    static uint8_t packet[REQUEST_MAX];
    struct stun_view v;
    const uint8_t *nonce = NULL;
    size_t len = 0;
    FUZZ_ASSERT(addr_equal(&m->client, &k.client));
    FUZZ_ASSERT(m->packet.len <= sizeof(packet));
    memcpy(packet, m->packet.data, m->packet.len);
    FUZZ_ASSERT(stun_parse(&v, packet, m->packet.len) == STUN_OK);
    FUZZ_ASSERT(v.cls == STUN_REQUEST && v.method != STUN_BINDING);
    FUZZ_ASSERT(stun_has(&v, A_message_integrity) || stun_has(&v, A_message_integrity_sha256));
    FUZZ_ASSERT(stun_get_bytes(&v, A_nonce, &nonce, &len) == STUN_OK);
    FUZZ_ASSERT(stun_nonce_check(nonce, len, k.worker.shard.config.nonce_key,
                                 k.worker.shard.time.wall_s, k.worker.shard.config.nonce_lifetime_s,
                                 0, &k.client));
    if (settings & DEAF)
        return;
    uint64_t flow = m->flow, session = m->session;
    hear(); /* a second frame would lie where the first one does */
    govern(flow, session, &v);
}

/* Takes in what the worker says to Erlang. */
static void hear(void)
{
    struct ctl_frame f;
    while (kit_frame(&k, &f)) {
        if (f.code == CTL_SESSION_GONE)
            revoke(f.u.session_gone.session, 0, NULL);
        if (f.code == CTL_REQUEST)
            take_request(&f.u.request);
    }
}

/* -------------------------------------------------------------------------------------- steps */

static bool is_stranger(void)
{
    const struct flow f = {k.listener->transport, k.listener->end.way, k.client, k.server};
    return !session_find(&k.worker.shard.sessions, &f) && !roamer_find(&k.worker.shard.roamers, &f);
}

static void from_client(const uint8_t *bytes, size_t len)
{
    bool stranger = is_stranger();
    uint32_t sessions = k.worker.shard.sessions.session_slab.live;
    uint32_t pending = k.worker.shard.pending.slab.live;
    kit_from_client(&k, bytes, len);
    after_client(len, stranger);
    FUZZ_ASSERT(k.worker.shard.sessions.session_slab.live <= sessions);
    FUZZ_ASSERT(k.worker.shard.pending.slab.live <= pending + 1);
    hear();
    struct fake_sent answer;
    while (fake_io_take(k.io, &answer))
        FUZZ_ASSERT(addr_equal(&answer.to, &k.client));
}

/* u8 family and address, then what the peer says. */
static void from_peer(struct session *s, const uint8_t *bytes, size_t len)
{
    struct relayed *r = s && len ? &s->relayed[bytes[0] & 1] : NULL;
    if (!r || !r->open || r->io.removing)
        return;
    struct addr from = k.peer;
    if (bytes[0] & 1)
        addr_parse(&from, "2001:db8::5", 9);
    from.ip[15] ^= bytes[0] & 2;
    from.port ^= bytes[0] & 4;
    kit_from_peer(&k, r, &from, bytes + 1, len - 1);
    after_peer(s, &from);
}

static void icmp(struct session *s, const uint8_t *bytes, size_t len)
{
    struct relayed *r = s && len > 2 ? &s->relayed[bytes[0] & 1] : NULL;
    if (!r || !r->open || r->io.removing)
        return;
    struct io_icmp report = {.peer = k.peer, .type = bytes[1], .code = bytes[2], .mtu = 1280};
    if (bytes[0] & 1)
        addr_parse(&report.peer, "2001:db8::5", 9);
    report.peer.ip[15] ^= bytes[0] & 2;
    fake_io_icmp(k.io, &r->io, &report);
    after_peer(s, &report.peer);
}

/* A frame of Erlang's. CONFIG, LISTEN and the like never reach a worker, UNLISTEN would end the
 * game, and answers are the governor's. */
static void command(const uint8_t *bytes, size_t len)
{
    struct ctl_frame f, reply;
    if (ctl_decode(&f, bytes, len) != CTL_ERR_NONE || ctl_code_way(f.code) != CTL_E2R ||
        f.code == CTL_UNLISTEN || f.code == CTL_ANSWER)
        return;
    kit_command(&k, &f);
    while (kit_frame(&k, &reply)) {
        if (reply.code == CTL_REPLY && reply.u.reply.status == CTL_OK)
            note_granted(&f);
        if (reply.code == CTL_SESSION_GONE)
            revoke(reply.u.session_gone.session, 0, NULL);
    }
}

/* As a client signs what it has put together: u8 method, then u8 row of attrs.def, u8 length,
 * bytes, again and again. */
static size_t signed_message(const uint8_t *bytes, size_t len, uint8_t *out)
{
    struct stun_builder b;
    struct bytes in = bytes_of(bytes, len);
    char nonce[STUN_NONCE_LEN];
    uint8_t txid[STUN_TXID_LEN] = {9}, method = STUN_ALLOCATE, row, n;
    const uint8_t *value;
    bytes_get8(&in, &method);
    stun_nonce_make(nonce, k.worker.shard.config.nonce_key, k.worker.shard.time.wall_s, 0,
                    &k.client);
    stun_build_start(&b, out, MESSAGE_MAX, STUN_REQUEST, method & 0xf, txid);
    while (bytes_get8(&in, &row) && bytes_get8(&in, &n) &&
           bytes_take(&in, MIN(n, bytes_left(&in)), &value))
        stun_put_raw(&b, stun_attr_table[row % STUN_ATTR_COUNT].code, value,
                     MIN(n, (size_t)(in.p - value)));
    stun_put_bytes(&b, A_username, user, 1);
    stun_put_bytes(&b, A_realm, realm, REALM_LEN);
    stun_put_bytes(&b, A_nonce, nonce, sizeof(nonce));
    stun_put_integrity(&b, key, sizeof(key) - 1);
    return stun_build_end(&b);
}

static void policy(const uint8_t *bytes, size_t len)
{
    denied = (struct addr){0};
    if (len && bytes[0] & 1) {
        denied = k.peer;
        if (bytes[0] & 2)
            addr_parse(&denied, "2001:db8::5", 9);
        revoke(0, 0, &denied);
    }
    kit_policy(&k, denied.family ? &denied : NULL, 128);
}

static void move(const uint8_t *bytes, size_t len)
{
    k.client.port = (uint16_t)(5000 + (len ? bytes[0] & 3 : 1));
    hear();
    kit_move(&k, len > 1 ? FIRST + bytes[1] % 4u : FIRST, 0);
}

static void step(uint8_t what, const uint8_t *bytes, size_t len)
{
    struct session *s = session_by_id(&k.worker.shard.sessions, FIRST);
    uint8_t message[MESSAGE_MAX];
    if (s && s->dying)
        s = NULL;
    switch (what % STEPS) {
    case FROM_CLIENT:
        from_client(bytes, MIN(len, (size_t)MESSAGE_MAX));
        break;
    case FROM_PEER:
        from_peer(s, bytes, MIN(len, (size_t)MESSAGE_MAX));
        break;
    case COMMAND:
        command(bytes, MIN(len, (size_t)MESSAGE_MAX));
        break;
    case TIME:
        kit_turn(&k, len ? bytes[0] * 10000u : 1);
        break;
    case OTHER_CLIENT:
        k.client.port = (uint16_t)(5000 + (len ? bytes[0] & 3 : 0));
        break;
    case SIGN:
        from_client(message, signed_message(bytes, len, message));
        break;
    case POLICY:
        policy(bytes, len);
        break;
    case MOVE:
        move(bytes, len);
        break;
    case ICMP:
        icmp(s, bytes, len);
        break;
    }
    hear();
}

static void set_up(uint8_t with)
{
    struct addr v6 = {0};
    settings = with;
    strangers_answered = 0;
    started_s = k.worker.shard.time.wall_s;
    last_session = FIRST + !!(with & ALLOCATED) - 1;
    permits_used = 0;
    lost_count = false;
    denied = (struct addr){0};
    addr_parse(&v6, "2001:db8::5", 9);
    if (with & LIMITED)
        ratelimit_init(&k.limits.unauthenticated, 1, STRANGERS_SHARE);
    if (with & DISCOVERY) {
        addr_parse(&k.listener->other, "127.0.0.2", 3479);
        shard_listener(&k.worker.shard, 2)->other = k.server;
    }
    if (!(with & ALLOCATED))
        return;
    kit_allocate(&k, FIRST, true, true, 600000);
    kit_channel(&k, FIRST, 0x4001, &k.peer, 600000, 300000);
    kit_channel(&k, FIRST, 0x4002, &v6, 600000, 300000);
    permit(FIRST, &k.peer, 300000);
    permit(FIRST, &v6, 300000);
}

static void start(void)
{
    static bool started;
    struct addr other;
    if (started)
        return;
    started = true;
    kit_start(&k);
    addr_parse(&other, "127.0.0.2", 3479);
    kit_listen(&k, 2, &other, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t with, what;
    uint16_t len;
    const uint8_t *bytes;
    start();
    if (!bytes_get8(&in, &with))
        return 0;
    set_up(with);
    while (bytes_get8(&in, &what) && bytes_get16(&in, &len) &&
           bytes_take(&in, MIN(len, bytes_left(&in)), &bytes))
        step(what, bytes, (size_t)(in.p - bytes));
    FUZZ_ASSERT(kit_reset(&k));
    return 0;
}

/* ------------------------------------------------------------------------------------ mutator */

struct script {
    uint8_t with;
    unsigned count;
    struct {
        uint8_t what;
        uint16_t len;
        uint8_t bytes[MESSAGE_MAX];
    } steps[32];
};

static uint32_t dice;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 17;
    dice ^= dice << 5;
    return dice % sides;
}

static void read_script(struct script *s, const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    const uint8_t *bytes;
    s->count = 0;
    s->with = ALLOCATED;
    bytes_get8(&in, &s->with);
    while (s->count < ARRAY_SIZE(s->steps) && bytes_get8(&in, &s->steps[s->count].what) &&
           bytes_get16(&in, &s->steps[s->count].len)) {
        size_t len = MIN(s->steps[s->count].len, bytes_left(&in));
        bytes_take(&in, len, &bytes);
        len = MIN(len, (size_t)MESSAGE_MAX);
        memcpy(s->steps[s->count].bytes, bytes, len);
        s->steps[s->count++].len = (uint16_t)len;
    }
}

static size_t write_script(const struct script *s, uint8_t *data, size_t max)
{
    struct wbytes w = wbytes_of(data, max);
    size_t whole = 1;
    wbytes_put8(&w, s->with);
    for (unsigned i = 0; i < s->count && whole + 3 + s->steps[i].len <= max; i++) {
        wbytes_put8(&w, s->steps[i].what);
        wbytes_put16(&w, s->steps[i].len);
        wbytes_put(&w, s->steps[i].bytes, s->steps[i].len);
        whole += 3u + s->steps[i].len;
    }
    return whole <= max ? whole : max;
}

/* Puts the attributes of a message into a new one, as far as they are there, with the length, the
 * nonce, the signatures and the fingerprint that they ask for. */
static size_t repair(const uint8_t *bytes, size_t len, uint8_t *out, const struct addr *client,
                     uint32_t wall_s)
{
    static const uint8_t nonce_key[STUN_NONCE_KEY_LEN] = {[0 ... STUN_NONCE_KEY_LEN - 1] = 0x5a};
    struct stun_builder b;
    struct bytes in = bytes_of(bytes + STUN_HEADER_LEN, len - STUN_HEADER_LEN);
    uint16_t type = load16(bytes), code, n;
    unsigned cls = (type >> 7 & 2) | (type >> 4 & 1);
    unsigned method = (type & 0xf) | (type >> 1 & 0x70) | (type >> 2 & 0xf80);
    const uint8_t *value;
    char nonce[STUN_NONCE_LEN];
    stun_build_start(&b, out, MESSAGE_MAX, (enum stun_class)cls, (uint16_t)method, bytes + 8);
    while (bytes_get16(&in, &code) && bytes_get16(&in, &n)) {
        size_t value_len = MIN(n, bytes_left(&in));
        bytes_take(&in, value_len, &value);
        if (code == stun_attr_table[A_nonce].code && value_len == STUN_NONCE_LEN) {
            stun_nonce_make(nonce, nonce_key, wall_s, 0, client);
            stun_put_raw(&b, code, nonce, sizeof(nonce));
        } else if (code == stun_attr_table[A_message_integrity].code) {
            stun_put_integrity(&b, key, sizeof(key) - 1);
        } else if (code == stun_attr_table[A_message_integrity_sha256].code) {
            stun_put_integrity_sha256(&b, key, sizeof(key) - 1);
        } else if (code == stun_attr_table[A_fingerprint].code) {
            stun_put_fingerprint(&b);
            break; /* the last, or none */
        } else {
            stun_put_raw(&b, code, value, value_len);
        }
        bytes_take(&in, MIN(-value_len & 3, bytes_left(&in)), &value);
    }
    return stun_build_end(&b);
}

/* Every client's message, with the client and the clock it will meet. */
static void repair_script(struct script *s)
{
    struct addr client = {0};
    uint32_t wall_s = 1700000000;
    uint8_t out[MESSAGE_MAX];
    addr_parse(&client, "192.0.2.9", 5000);
    for (unsigned i = 0; i < s->count; i++) {
        uint8_t first = s->steps[i].len ? s->steps[i].bytes[0] : 0xff;
        switch (s->steps[i].what % STEPS) {
        case TIME:
            wall_s += first == 0xff ? 0 : first * 10u;
            break;
        case OTHER_CLIENT:
        case MOVE:
            client.port = (uint16_t)(5000 + (s->steps[i].len ? first & 3 : 0));
            break;
        case FROM_CLIENT: {
            size_t len = first < 4 && s->steps[i].len >= STUN_HEADER_LEN && roll(16)
                             ? repair(s->steps[i].bytes, s->steps[i].len, out, &client, wall_s)
                             : 0;
            if (len) {
                memcpy(s->steps[i].bytes, out, len);
                s->steps[i].len = (uint16_t)len;
            }
            break;
        }
        default:
            break;
        }
    }
}

static void mutate_step(struct script *s, unsigned i)
{
    switch (roll(8)) {
    case 0: /* again */
        if (s->count < ARRAY_SIZE(s->steps))
            s->steps[s->count++] = s->steps[i];
        break;
    case 1: /* not at all */
        s->steps[i] = s->steps[--s->count];
        break;
    case 2: { /* later, or sooner */
        unsigned j = roll(s->count);
        s->steps[ARRAY_SIZE(s->steps) - 1] =
            s->count < ARRAY_SIZE(s->steps) ? s->steps[i] : s->steps[ARRAY_SIZE(s->steps) - 1];
        if (s->count < ARRAY_SIZE(s->steps)) {
            s->steps[i] = s->steps[j];
            s->steps[j] = s->steps[ARRAY_SIZE(s->steps) - 1];
        }
        break;
    }
    case 3: /* something else of the same */
        s->steps[i].what = (uint8_t)roll(STEPS);
        break;
    default:
        s->steps[i].len = (uint16_t)LLVMFuzzerMutate(s->steps[i].bytes, s->steps[i].len,
                                                     MIN(s->steps[i].len + 64u, MESSAGE_MAX));
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static struct script s;
    dice = seed | 1;
    if (size < 4 || roll(16) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    read_script(&s, data, size);
    if (s.count == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (roll(16) == 0)
        s.with = (uint8_t)roll(16);
    for (unsigned n = 1 + roll(3); n && s.count; n--)
        mutate_step(&s, roll(s.count));
    repair_script(&s);
    return write_script(&s, data, max_size);
}
