/*
 * Requests that a worker answers within grants: how long what it did lasts, and how Erlang is told
 * of it before the client is, by a journal and without one. What is within a grant, and that the
 * answers are Erlang's own, grants_SUITE has.
 */
#include "crypto.h"
#include "journal.h"
#include "worker_kit.h"

enum { NUMBER = 0x4001, MS = 3600000 };

static const char key[GRANT_KEY_MAX + 1] = "sixteen bytes it";
static struct session *session;
static char nonce[128];
static size_t nonce_len;
static uint8_t tries;

/* As grant.h says: of USERNAME and REALM alone. */
static void names_of(uint8_t out[SHA256_LEN])
{
    static const uint8_t user[] = {1, 0, 1, 'u'}, none[] = {0};
    static const uint8_t realm[] = {1,   0,   11,  'e', 'x', 'a', 'm',
                                    'p', 'l', 'e', '.', 'o', 'r', 'g'};
    const struct crypto_part parts[] = {
        {user, sizeof(user)}, {none, 1}, {realm, sizeof(realm)}, {none, 1}, {none, 1}};
    crypto_sha256(parts, ARRAY_SIZE(parts), out);
}

static void give(void)
{
    uint8_t names[SHA256_LEN];
    names_of(names);
    struct ctl_frame f = {.code = CTL_GRANT,
                          .u.grant = {.session = ID,
                                      .listener = 1,
                                      .key = ctl_bytes_of(key, 16),
                                      .names = ctl_bytes_of(names, sizeof(names)),
                                      .default_s = 600,
                                      .max_s = 3600,
                                      .max_peers = 32}};
    kit_command(&k, &f);
}

static void start(void)
{
    kit_start(&k);
    session = kit_allocate(&k, ID, true, false, MS);
    kit_from_client(&k, buf, bare_request(buf, sizeof(buf), STUN_REFRESH));
    CHECK(took(&sent));
    nonce_len = nonce_of(&sent, nonce);
    give();
}

static void ask(uint16_t method)
{
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {4, ++tries};
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, method, txid);
    if (method == STUN_CHANNEL_BIND)
        stun_put_uint(&b, A_channel_number, NUMBER);
    if (method != STUN_REFRESH)
        stun_put_addr(&b, A_xor_peer_address, &k.peer);
    stun_put_bytes(&b, A_username, "u", 1);
    stun_put_bytes(&b, A_realm, "example.org", 11);
    stun_put_bytes(&b, A_nonce, nonce, nonce_len);
    stun_put_integrity(&b, key, 16);
    kit_from_client(&k, buf, stun_build_end(&b));
}

static bool succeeded(void)
{
    struct stun_view v;
    return took(&sent) && stun_parse(&v, sent.data, sent.len) == STUN_OK && v.cls == STUN_SUCCESS;
}

/* All that was posted is in the pipe. */
static void tell(void)
{
    struct ctl_frame f;
    while (kit_frame(&k, &f))
        ;
    atomic_store(&k.worker.told, mailbox_consumed(&k.worker.shard.out));
    kit_turn(&k, 0);
}

static bool granted(uint16_t method)
{
    ask(method);
    tell();
    return succeeded();
}

static bool gets_through(void)
{
    kit_from_peer(&k, &session->relayed[0], &k.peer, "data", 4);
    return took(&sent);
}

/* --------------------------------------------------------------------------- how long it lasts */

static void a_permission_lasts_five_minutes(void)
{
    start();
    CHECK(granted(STUN_CREATE_PERMISSION));
    kit_turn(&k, CTL_PERMISSION_MS - 1);
    CHECK(gets_through());
    kit_turn(&k, 1);
    CHECK(!gets_through());
    kit_stop(&k);
}

static void a_channel_lasts_ten_minutes_and_its_permission_five(void)
{
    start();
    CHECK(granted(STUN_CHANNEL_BIND));
    kit_turn(&k, CTL_PERMISSION_MS - 1);
    CHECK(gets_through());
    kit_turn(&k, 1);
    CHECK(!gets_through());
    kit_turn(&k, CTL_CHANNEL_MS - CTL_PERMISSION_MS - 1);
    CHECK(channel_by_number(&k.worker.shard.sessions, session, NUMBER, k.worker.shard.time.now));
    kit_turn(&k, 1);
    CHECK(!channel_by_number(&k.worker.shard.sessions, session, NUMBER, k.worker.shard.time.now));
    kit_stop(&k);
}

/* ----------------------------------------------------------------------- told, and then answered
 */

static void without_a_journal_an_answer_waits_for_the_pipe(void)
{
    struct ctl_frame f;
    start();
    tell();
    ask(STUN_REFRESH);
    CHECK(nothing_sent());
    kit_turn(&k, 10);
    CHECK(nothing_sent());
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_GRANTED);
    CHECK_EQ(f.u.granted.method, STUN_REFRESH);
    kit_turn(&k, 10); /* it was taken, and is not in the pipe yet */
    CHECK(nothing_sent());
    tell();
    CHECK(succeeded());
    kit_stop(&k);
}

static struct journal_book book;

static void open_journal(void)
{
    char path[JOURNAL_PATH_MAX];
    CHECK_EQ(journal_make(&book, 1), 0);
    journal_path(&book, path);
    struct ctl_frame f = {.code = CTL_JOURNAL,
                          .u.journal = {.path = ctl_bytes_of(path, strlen(path))}};
    kit_command(&k, &f);
    CHECK(journal_is_open(&k.worker.shard.journal));
}

struct heard {
    uint32_t count;
    struct ctl_frame last;
};

static void hear(void *ctx, uint64_t age_ms, const uint8_t *note, uint32_t len)
{
    static uint8_t copy[JOURNAL_NOTE_MAX];
    struct heard *h = ctx;
    (void)age_ms;
    memcpy(copy, note, len);
    CHECK_EQ(ctl_decode(&h->last, copy, len), CTL_ERR_NONE);
    CHECK_EQ(h->last.code, CTL_GRANTED);
    h->count++;
}

static uint32_t noted(struct heard *h)
{
    h->count = 0;
    CHECK(journal_read(&book, hear, h));
    journal_taken(&book);
    return h->count;
}

static void with_one_it_is_noted_and_nobody_is_woken(void)
{
    struct heard h;
    struct ctl_frame f;
    start();
    open_journal();
    tell();
    ask(STUN_CHANNEL_BIND);
    CHECK(succeeded());
    CHECK(!kit_frame(&k, &f));
    CHECK_EQ(noted(&h), 1);
    CHECK_EQ(h.last.u.granted.session, ID);
    CHECK_EQ(h.last.u.granted.number, NUMBER);
    CHECK_EQ(kit_count(&k, CTR_granted), 1);
    kit_stop(&k);
    journal_end(&book);
}

static void who_watches_is_told_at_once(void)
{
    struct ctl_frame f;
    start();
    open_journal();
    tell();
    ask(STUN_REFRESH);
    CHECK(succeeded());
    CHECK(!kit_frame(&k, &f));
    struct ctl_frame grants = {.code = CTL_GRANTS, .u.grants = {.prompt = 1}};
    kit_command(&k, &grants); /* there is something from before */
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_NOTED);
    ask(STUN_REFRESH);
    CHECK(succeeded());
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_NOTED);
    grants.u.grants.prompt = 0;
    kit_command(&k, &grants);
    ask(STUN_REFRESH);
    CHECK(succeeded());
    CHECK(!kit_frame(&k, &f));
    kit_stop(&k);
    journal_end(&book);
}

/* Erlang hears once that there is much. What finds no room is its own, and nothing has happened. */
static void a_journal_that_is_not_read(void)
{
    struct heard h;
    struct ctl_frame f;
    uint32_t answers = 0, noted_frames = 0;
    start();
    open_journal();
    tell();
    for (; answers < JOURNAL_RING; answers++) {
        ask(STUN_REFRESH);
        if (!succeeded())
            break;
        while (kit_frame(&k, &f))
            noted_frames += f.code == CTL_NOTED;
    }
    CHECK(answers < JOURNAL_RING);
    CHECK_EQ(noted_frames, 1);
    CHECK(kit_frame(&k, &f));
    CHECK_EQ(f.code, CTL_REQUEST);
    CHECK_EQ(noted(&h), answers);
    struct ctl_frame answer = {.code = CTL_ANSWER, .u.answer = {.flow = f.u.request.flow}};
    kit_command(&k, &answer);
    ask(STUN_REFRESH);
    CHECK(succeeded());
    CHECK_EQ(noted(&h), 1);
    kit_stop(&k);
    journal_end(&book);
}

static void it_is_closed_when_erlang_is_gone(void)
{
    start();
    open_journal();
    kit_mail(&k, MAIL_FORGET, NULL, 0);
    kit_turn(&k, 0);
    CHECK(!journal_is_open(&k.worker.shard.journal));
    kit_stop(&k);
    journal_end(&book);
}

int main(void)
{
    RUN(a_permission_lasts_five_minutes);
    RUN(a_channel_lasts_ten_minutes_and_its_permission_five);
    RUN(without_a_journal_an_answer_waits_for_the_pipe);
    RUN(with_one_it_is_noted_and_nobody_is_woken);
    RUN(who_watches_is_told_at_once);
    RUN(a_journal_that_is_not_read);
    RUN(it_is_closed_when_erlang_is_gone);
    return test_end("granted");
}
