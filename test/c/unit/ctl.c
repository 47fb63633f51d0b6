/*
 * Frames: known bytes both ways, every message through both, and what must be refused.
 */
#include "ctl.h"

#include <inttypes.h>

#include "test.h"

/* {permit, ref 0x01020304}: session 0x0200000000000007, 300 s, 192.0.2.1 and [2001:db8::1]:9. */
static const uint8_t permit[] = {0x34, 0,   0, 0,    1,    2,    3,    4, 0x02, 0,    0,    0,    0,
                                 0,    0,   7, 0x00, 0x04, 0x93, 0xe0, 0, 0,    0,    26,   4,    0,
                                 0,    192, 0, 2,    1,    6,    0,    9, 0x20, 0x01, 0x0d, 0xb8, 0,
                                 0,    0,   0, 0,    0,    0,    0,    0, 0,    0,    1};

static void known_bytes(void)
{
    uint8_t *data = test_exact(permit, sizeof(permit)), buf[sizeof(permit)];
    struct ctl_frame f = {0};
    struct addr a;
    char text[ADDR_TEXT_MAX];

    test_begin("permit decodes");
    CHECK_EQ(ctl_decode(&f, data, sizeof(permit)), CTL_ERR_NONE);
    CHECK_EQ(f.code, CTL_PERMIT);
    CHECK_EQ(f.ref, 0x01020304);
    CHECK_EQ(f.u.permit.session, 0x0200000000000007);
    CHECK_EQ(f.u.permit.lifetime_ms, 300000);
    CHECK(f.u.permit.peers.data == data + 24);
    CHECK_EQ(f.u.permit.peers.len, 26);

    test_begin("peers one after the other");
    struct bytes cur = ctl_cursor(f.u.permit.peers);
    CHECK(ctl_next_addr(&cur, &a));
    CHECK_STR(addr_format(&a, text), "192.0.2.1:0");
    CHECK(ctl_next_addr(&cur, &a));
    CHECK_STR(addr_format(&a, text), "[2001:db8::1]:9");
    CHECK(!ctl_next_addr(&cur, &a));
    CHECK_EQ(bytes_left(&cur), 0);

    test_begin("permit encodes");
    CHECK_EQ(ctl_encode(&f, buf, sizeof(buf)), sizeof(permit));
    CHECK_MEM(buf, permit, sizeof(permit));
    CHECK_EQ(ctl_encode(&f, buf, sizeof(buf) - 1), 0);
    CHECK_EQ(ctl_encode(&f, buf, 0), 0);
    free(data);
}

static void malformed_peers(void)
{
    static const uint8_t stray[] = {4, 0, 1, 192, 0, 2, 1, 7};
    struct addr a;
    struct bytes cur = bytes_of(stray, sizeof(stray));

    test_begin("a malformed peer stops the cursor before it");
    CHECK(ctl_next_addr(&cur, &a));
    a.port = 4711;
    CHECK(!ctl_next_addr(&cur, &a));
    CHECK_EQ(bytes_left(&cur), 1);
    CHECK_EQ(a.port, 4711);
    cur = bytes_of(stray, 6);
    CHECK(!ctl_next_addr(&cur, &a));
    CHECK_EQ(bytes_left(&cur), 6);
}

/* A value of every type; each message is filled with them. */
#define FILL_u8(v)    (v) = 0xa5
#define FILL_u16(v)   (v) = 0xa55a
#define FILL_u32(v)   (v) = 0xa5000001u
#define FILL_u64(v)   (v) = 0xa500000000000001u
#define FILL_addr(v)  (v) = addr_from_v6((const uint8_t *)"0123456789abcdef", 0x1234)
#define FILL_bytes(v) (v) = ctl_bytes_of("xyz", 3)
#define F(type, name) FILL_##type(m->name);
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    static void fill_##name(struct ctl_##name *m)                                                  \
    {                                                                                              \
        (void)m;                                                                                   \
        fields                                                                                     \
    }
#include "ctl.def"

static void fill(struct ctl_frame *f)
{
    switch (f->code) {
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    case CTL_##NAME:                                                                               \
        fill_##name(&f->u.name);                                                                   \
        break;
#include "ctl.def"
    }
}

static void every_message(void)
{
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++) {
        struct ctl_frame f = {.code = ctl_messages[i].code, .ref = 0xcafe0000u + (uint32_t)i}, g;
        uint8_t buf[CTL_PLAIN_MAX + 32] = {0}, again[sizeof(buf)];

        test_begin(ctl_messages[i].name);
        fill(&f);
        size_t len = ctl_encode(&f, buf, sizeof(buf));
        CHECK(len >= CTL_HEADER_LEN);
        CHECK_EQ(ctl_encode(&f, again, len), len);
        CHECK_EQ(ctl_encode(&f, again, len - 1), 0);

        uint8_t *data = test_exact(buf, len);
        CHECK_EQ(ctl_decode(&g, data, len), CTL_ERR_NONE);
        CHECK_EQ(g.code, f.code);
        CHECK_EQ(g.ref, f.ref);
        CHECK_EQ(ctl_encode(&g, again, sizeof(again)), len);
        CHECK_MEM(again, buf, len);
        free(data);

        for (size_t cut = 0; cut < len; cut++) {
            data = test_exact(buf, cut);
            g.ref = 1;
            CHECK_EQ(ctl_decode(&g, data, cut), CTL_ERR_SHORT);
            CHECK_EQ(g.ref, 1);
            free(data);
        }
        CHECK_EQ(ctl_decode(&g, buf, len + 1), CTL_ERR_TRAILING);
        for (size_t at = 1; at < 4; at++) {
            buf[at] = 1;
            CHECK_EQ(ctl_decode(&g, buf, len), CTL_ERR_RESERVED);
            buf[at] = 0;
        }
    }
}

static void refused(void)
{
    struct ctl_frame f;
    uint8_t buf[64] = {0};

    test_begin("codes of no message");
    for (unsigned code = 0; code < 256; code++) {
        bool known = ctl_code_way((uint8_t)code) != CTL_NOWHERE;
        buf[0] = (uint8_t)code;
        CHECK_EQ(ctl_decode(&f, buf, CTL_HEADER_LEN) == CTL_ERR_CODE, !known);
        CHECK_EQ(strcmp(ctl_code_name((uint8_t)code), "unknown") == 0, !known);
    }
    f = (struct ctl_frame){.code = 0xff};
    CHECK_EQ(ctl_encode(&f, buf, sizeof(buf)), 0);

    test_begin("families other than 0, 4, 6");
    for (unsigned family = 0; family < 256; family++) {
        uint8_t listening[8 + 4 + 2 + 19 + 4] = {CTL_LISTENING};
        listening[14] = (uint8_t)family;
        enum ctl_err err = ctl_decode(&f, listening, sizeof(listening));
        if (family == 6)
            CHECK_EQ(err, CTL_ERR_NONE);
        else if (family == 0 || family == 4)
            CHECK_EQ(err, CTL_ERR_TRAILING);
        else
            CHECK_EQ(err, CTL_ERR_FAMILY);
    }
    f = (struct ctl_frame){.code = CTL_LISTENING, .u.listening.local.family = 5};
    CHECK_EQ(ctl_encode(&f, buf, sizeof(buf)), 0);

    test_begin("a length that wraps");
    static const uint8_t answer[] = {CTL_ANSWER, 0, 0, 0, 0, 0, 0,    0,    0,    0,   0,
                                     0,          0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    CHECK_EQ(ctl_decode(&f, answer, sizeof(answer)), CTL_ERR_SHORT);
}

static void tables(void)
{
    test_begin("names");
    CHECK_STR(ctl_code_name(CTL_ALLOC_CREATE), "alloc_create");
    CHECK_STR(ctl_status_name(CTL_NO_PORTS), "no_ports");
    CHECK_STR(ctl_status_name(0xffff), "unknown");
    CHECK_STR(ctl_err_name(CTL_ERR_FAMILY), "family");
    CHECK_EQ(ctl_code_way(CTL_HELLO), CTL_R2E);
    CHECK_EQ(ctl_code_way(CTL_CONFIG), CTL_E2R);
    CHECK_STR(ctl_counters[CTR_no_permission].name, "no_permission");
    CHECK(ctl_counters[CTR_no_permission].is_drop);
    CHECK(!ctl_counters[CTR_client_packets].is_drop);
    CHECK_EQ(ctl_messages[CTL_INDEX_STATS].fields[0].name == NULL, true);

    test_begin("the largest frame without what is in its strings is SESSION_STATS");
    CHECK_EQ(CTL_PLAIN_MAX, 8 + 8 + 5 * 8 + 14 * 8 + 2 + 4);

    test_begin("the dump has a line a row");
    char *text;
    size_t len, lines = 0;
    FILE *out = open_memstream(&text, &len);
    if (!CHECK(out != NULL))
        return;
    ctl_dump(out);
    fclose(out);
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    CHECK_EQ(lines, 1 + CTL_MESSAGE_COUNT + CTL_STATUS_COUNT + CTL_TRANSPORT_COUNT + COUNTER_COUNT);
    char first[128];
    snprintf(first, sizeof(first),
             "version 1 hash %016" PRIx64 "\nmessage hello 0x01 r2e magic:u32", ctl_table_hash());
    CHECK(strncmp(text, first, strlen(first)) == 0);
    free(text);
}

int main(void)
{
    known_bytes();
    malformed_peers();
    every_message();
    refused();
    tables();
    return test_end("ctl");
}
