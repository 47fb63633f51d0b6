/*
 * The relay's front door and everything behind it: datagrams of clients and peers, commands and
 * time, in any order, on a worker with the fake io. The input is a list of steps:
 *
 *   u8 what, u8 length, bytes
 */
#include <stdlib.h>

#include "relay_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FROM_CLIENT, FROM_PEER, COMMAND, TIME, OTHER_CLIENT, SIGN, STEPS };

/* Makes a message out of the bytes that passes the challenge, so that what lies behind is met. */
static size_t with_credentials(struct kit *k, const uint8_t *bytes, size_t len, uint8_t *out,
                               size_t cap)
{
    struct stun_builder b;
    char nonce[STUN_NONCE_LEN];
    uint8_t txid[STUN_TXID_LEN] = {9};
    stun_nonce_make(nonce, k->worker.config.nonce_key, k->worker.time.wall_s, 0, &k->client);
    stun_build_start(&b, out, cap, STUN_REQUEST, len ? bytes[0] & 0xf : STUN_ALLOCATE, txid);
    stun_put_bytes(&b, A_username, "u", 1);
    stun_put_bytes(&b, A_realm, "example.org", 11);
    stun_put_bytes(&b, A_nonce, nonce, sizeof(nonce));
    for (size_t at = 1; at + 3 < len; at += 4)
        stun_put_raw(&b, load16(bytes + at), bytes + at, bytes[at + 2] % (len - at));
    stun_put_integrity(&b, "k", 1);
    return stun_build_end(&b);
}

static void step(struct kit *k, uint8_t what, const uint8_t *bytes, size_t len)
{
    struct session *s = session_by_id(&k->worker.sessions, 42);
    uint8_t message[1024];
    struct ctl_frame f;
    switch (what % STEPS) {
    case FROM_CLIENT:
        kit_from_client(k, bytes, len);
        break;
    case FROM_PEER:
        if (s)
            kit_from_peer(k, &s->relayed[len & 1 && s->relayed[1].open], &k->peer, bytes, len);
        break;
    case COMMAND:
        /* CONFIG, LISTEN and the like never reach a worker. */
        if (ctl_decode(&f, bytes, len) == CTL_ERR_NONE && ctl_code_way(f.code) == CTL_E2R)
            kit_command(k, &f);
        break;
    case TIME:
        kit_turn(k, len ? bytes[0] * 10000u : 1);
        if (!session_by_id(&k->worker.sessions, 42))
            kit_allocate(k, 42, true, false, 600000);
        break;
    case OTHER_CLIENT:
        k->client.port ^= 1;
        break;
    case SIGN:
        kit_from_client(k, message, with_credentials(k, bytes, len, message, sizeof(message)));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kit k;
    struct bytes in = bytes_of(data, size);
    uint8_t what, len;
    const uint8_t *bytes;
    struct ctl_frame f;
    struct addr v6 = {0};
    kit_start(&k);
    addr_parse(&v6, "2001:db8::5", 9);
    kit_allocate(&k, 42, true, true, 600000);
    kit_channel(&k, 42, 0x4001, &k.peer, 600000, 300000);
    kit_channel(&k, 42, 0x4002, &v6, 600000, 300000);
    while (bytes_get8(&in, &what) && bytes_get8(&in, &len) &&
           bytes_take(&in, MIN(len, bytes_left(&in)), &bytes)) {
        step(&k, what, bytes, MIN(len, (size_t)(in.p - bytes)));
        while (kit_frame(&k, &f))
            ;
    }
    kit_stop(&k);
    /* Whatever happened, nothing is left behind. */
    if (k.worker.sessions.session_slab.live || k.worker.sessions.permission_slab.live)
        abort();
    return 0;
}
