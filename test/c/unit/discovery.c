/*
 * Binding requests of NAT behaviour discovery (RFC 5780). B rows are of the conformance table, X26
 * is one of the threat table.
 */
#include "worker_kit.h"

static size_t discovery_request(uint64_t change, uint64_t port, size_t padding)
{
    static const uint8_t zeros[1000];
    struct stun_builder b;
    uint8_t txid[STUN_TXID_LEN] = {5};
    stun_build_start(&b, buf, sizeof(buf), STUN_REQUEST, STUN_BINDING, txid);
    if (change)
        stun_put_uint(&b, A_change_request, change);
    if (port)
        stun_put_uint(&b, A_response_port, port);
    if (padding)
        stun_put_bytes(&b, A_padding, zeros, padding);
    return stun_build_end(&b);
}

static void b3_answers_come_from_where_they_were_asked_to(void)
{
    kit_start(&k);
    struct addr all[4] = {k.server, k.server, k.server, k.server}, origin, other;
    struct listener *l[4];
    for (int i = 0; i < 4; i++) { /* bit 0: other port, bit 1: other IP */
        all[i].ip[15] = i & 2 ? 9 : 1;
        all[i].port = i & 1 ? 4479 : 4478;
    }
    for (int i = 0; i < 4; i++)
        l[i] = kit_listen(&k, 10u + (unsigned)i, &all[i], &all[3 - i]);
    static const uint64_t flags[4] = {0, 2, 4, 6};
    struct stun_view v;
    for (int i = 0; i < 4; i++) {
        fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(flags[i], 0, 0));
        kit_turn(&k, 0);
        CHECK(took(&sent));
        CHECK(sent.socket == &l[i]->io);
        CHECK(addr_equal(&sent.to, &k.client));
        CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
        CHECK(stun_has(&v, A_mapped_address) && stun_has(&v, A_xor_mapped_address)); /* B2 */
        CHECK_EQ(stun_get_addr(&v, A_response_origin, &origin), STUN_OK);            /* B4 */
        CHECK(addr_equal(&origin, &all[i]));
        CHECK_EQ(stun_get_addr(&v, A_other_address, &other), STUN_OK);
        CHECK(addr_equal(&other, &all[3]));
    }
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(0, 2000, 0));
    kit_turn(&k, 0);
    CHECK(took(&sent)); /* B6 */
    CHECK_EQ(sent.to.port, 2000);
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(0, 2000, 8));
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, discovery_request(0, 80, 0)); /* X26 */
    kit_turn(&k, 0);
    CHECK(took(&sent)); /* B5 */
    CHECK_EQ(error_code(&sent), 400);
    CHECK(took(&sent));
    CHECK_EQ(error_code(&sent), 400);
    size_t asked = discovery_request(0, 0, 600);
    fake_io_deliver(k.io, &l[0]->io, &k.client, NULL, buf, asked);
    kit_turn(&k, 0);
    CHECK(took(&sent));
    CHECK(sent.len > 600 && sent.len <= asked + 64);
    kit_stop(&k);
}

static void x26_discovery_is_unknown_where_it_is_off(void)
{
    static const enum stun_attr_id ids[] = {A_change_request, A_response_port, A_padding};
    kit_start(&k);
    for (int i = 0; i < 3; i++) {
        kit_from_client(&k, buf,
                        discovery_request(i == 0 ? 2 : 0, i == 1 ? 2000 : 0, i == 2 ? 8 : 0));
        CHECK(took(&sent));
        CHECK_EQ(error_code(&sent), 420);
        struct stun_view v;
        CHECK_EQ(stun_parse(&v, sent.data, sent.len), STUN_OK);
        const uint8_t *types;
        types = v.data + v.at[A_unknown_attributes];
        CHECK_EQ(load16(types + 2), 2);
        CHECK_EQ(load16(types + 4), stun_attr_table[ids[i]].code);
    }
    kit_stop(&k);
}

int main(void)
{
    RUN(b3_answers_come_from_where_they_were_asked_to);
    RUN(x26_discovery_is_unknown_where_it_is_off);
    return test_end("discovery");
}
