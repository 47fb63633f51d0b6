/*
 * Prints what is kept in the repository but made from ctl.def and counters.def:
 *
 *   gen protocol   docs/protocol.md
 *   gen hrl        src/base/meerkat_ctl.hrl
 *
 * and, for the test that holds the two codecs against each other, hex, one frame a line:
 *
 *   gen sample     each message once, its values made by the rule at fill_sample()
 *   gen echo       stdin, each line decoded and encoded again, or the name of what is wrong
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

static const char *way_name(enum ctl_way way)
{
    return way == CTL_E2R ? "e2r" : way == CTL_R2E ? "r2e" : "r2r";
}

static const char *way_words(enum ctl_way way)
{
    return way == CTL_E2R   ? "to the relay"
           : way == CTL_R2E ? "to Erlang"
                            : "from one relay to the next";
}

static bool is_status(const char *field)
{
    return strncmp(field, "status", 6) == 0;
}

/* On these pages a status is a type of its own. */
static const char *type_name(const struct ctl_field_desc *f)
{
    return is_status(f->name) ? "status" : f->type;
}

/* --- docs/protocol.md --- */

/* A cell must not hold the character that ends it. */
static void print_cell(const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            putchar('\\');
        putchar(*text);
    }
}

static void print_message(const struct ctl_message_desc *m)
{
    printf("\n### %s\n\n", m->name);
    printf("Code 0x%02x, %s.\n\n", m->code, way_words(m->way));
    printf("%c%s.\n", toupper((unsigned char)m->meaning[0]), m->meaning + 1);
    if (!m->fields[0].name) {
        puts("\nNo fields.");
        return;
    }
    puts("\n| field | type |\n|---|---|");
    for (const struct ctl_field_desc *f = m->fields; f->name; f++)
        printf("| `%s` | %s |\n", f->name, type_name(f));
}

static const struct ctl_limit_desc {
    const char *name;
    unsigned value;
    const char *meaning;
} limits[] = {
#define LIMIT(NAME, name, value, meaning) {#name, value, meaning},
#include "ctl.def"
};

static void print_protocol(void)
{
    puts("# Protocol between Erlang and the relay\n\n"
         "Made from `c_src/ctl/ctl.def` and `c_src/ctl/counters.def` by `make gen`; change "
         "those.\n");
    printf("Version %d, table hash `%016" PRIx64 "`, magic `0x%08x`.\n\n", CTL_VERSION,
           ctl_table_hash(), CTL_MAGIC);
    puts("The relay is a port program. Frames travel on its fds 3 (from Erlang) and 4 (to Erlang), "
         "each\nafter its length in 32 bits (`{packet, 4}`). Everything is big endian.\n\n"
         "| part of a frame | type |\n|---|---|\n"
         "| code | u8 |\n| zero | u8 |\n| zero | u16 |\n| ref | u32 |\n"
         "| fields of the message, in order | |\n\n"
         "Nothing follows the last field. A command's `ref` comes back in its reply; events carry "
         "0.\n\n"
         "| type | on the wire |\n|---|---|\n"
         "| u8, u16, u32, u64 | unsigned integer of so many bits |\n"
         "| addr | u8 family: 0 none, 4, 6; then, unless 0, u16 port and 4 or 16 bytes of IP |\n"
         "| bytes | u32 length, then so many bytes |\n"
         "| status | u16, a code of the table [Statuses](#statuses) |\n");

    puts("## Messages\n\n| message | code | way |\n|---|---|---|");
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++)
        printf("| [%s](#%s) | 0x%02x | %s |\n", ctl_messages[i].name, ctl_messages[i].name,
               ctl_messages[i].code, way_words(ctl_messages[i].way));
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++)
        print_message(&ctl_messages[i]);

    puts("\n## Statuses\n\n| status | code | meaning |\n|---|---|---|");
    for (size_t i = 0; i < CTL_STATUS_COUNT; i++) {
        printf("| %s | %u | ", ctl_statuses[i].name, ctl_statuses[i].code);
        print_cell(ctl_statuses[i].meaning);
        puts(" |");
    }

    puts("\n## Transports\n\n| transport | code | meaning |\n|---|---|---|");
    for (size_t i = 0; i < CTL_TRANSPORT_COUNT; i++) {
        printf("| %s | %u | ", ctl_transports[i].name, ctl_transports[i].code);
        print_cell(ctl_transports[i].meaning);
        puts(" |");
    }

    puts("\n## Limits\n\nWhat both sides keep to.\n\n| limit | value | of |\n|---|---|---|");
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        printf("| %s | %u | ", limits[i].name, limits[i].value);
        print_cell(limits[i].meaning);
        puts(" |");
    }

    puts("\n## Reasons\n\nWhy a peer is forbidden that no rule forbids, as `reply` has it in its "
         "detail.\n\n| reason | what helps |\n|---|---|");
    for (size_t i = 0; i < CTL_REASON_COUNT; i++)
        printf("| %s | %s |\n", ctl_reasons[i].text, ctl_reasons[i].hint);

    puts("\n## Counters\n\nIn the order in which `stats_reply` lists them, u64 each. A drop is a "
         "packet that went no further.\n\n| counter | kind | counts |\n|---|---|---|");
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        printf("| %s | %s | ", ctl_counters[i].name, ctl_counters[i].is_drop ? "drop" : "counter");
        print_cell(ctl_counters[i].help);
        puts(" |");
    }
}

/* --- src/base/meerkat_ctl.hrl --- */

static void print_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
    putchar('"');
}

static bool is_of_type(const struct ctl_field_desc *f, const char *type)
{
    return strcmp(type_name(f), type) == 0;
}

static bool is_uint(const struct ctl_field_desc *f)
{
    return f->type[0] == 'u' && !is_status(f->name);
}

static void print_field_map(const struct ctl_message_desc *m, const char *arrow)
{
    printf("#{");
    for (const struct ctl_field_desc *f = m->fields; f->name; f++)
        printf("%s%s %s V_%s", f == m->fields ? "" : ",\n        ", f->name, arrow, f->name);
    printf("}");
}

static void print_guard(const struct ctl_message_desc *m)
{
    size_t n = 0;

    while (m->fields[n].name)
        n++;
    printf(" = M) when map_size(M) =:= %zu", n);
    for (const struct ctl_field_desc *f = m->fields; f->name; f++)
        if (is_uint(f))
            printf(",\n        ?CTL_UINT(V_%s, %s)", f->name, f->type + 1);
}

/* One binary, which bytes interrupt: these are not copied into it. */
static void print_put(const struct ctl_message_desc *m)
{
    bool open = true;

    printf("put_fields(%s, Ref, ", m->name);
    print_field_map(m, ":=");
    print_guard(m);
    printf(" ->\n    [<<16#%02x, 0:24, Ref:32", m->code);
    for (const struct ctl_field_desc *f = m->fields; f->name; f++) {
        printf("%s", open ? ",\n        " : ", <<");
        if (is_uint(f))
            printf("V_%s:%s", f->name, f->type + 1);
        else if (is_of_type(f, "bytes"))
            printf("(put_size(V_%s)):32>>, V_%s", f->name, f->name);
        else
            printf("(put_%s(V_%s))/binary", type_name(f), f->name);
        open = !is_of_type(f, "bytes");
    }
    printf("%s]", open ? ">>" : "");
}

/* Fields up to the next whose length is not known beforehand; that one is left in Rest_NAME. */
static const struct ctl_field_desc *print_pattern(const struct ctl_field_desc *f)
{
    const char *comma = "";

    printf("<<");
    for (; f->name; f++, comma = ",\n        ") {
        printf("%s", comma);
        if (is_uint(f))
            printf("V_%s:%s", f->name, f->type + 1);
        else if (is_of_type(f, "bytes"))
            printf("L_%s:32, V_%s:L_%s/binary", f->name, f->name, f->name);
        else {
            printf("Rest_%s/binary", f->name);
            break;
        }
    }
    printf(">>");
    return f;
}

static void print_get(const struct ctl_message_desc *m)
{
    size_t cases = 0;

    printf("get_fields(16#%02x, ", m->code);
    const struct ctl_field_desc *f = print_pattern(m->fields);
    printf(") ->\n    ");
    for (; f->name; cases++) {
        printf("case get_%s(Rest_%s) of {V_%s, ", type_name(f), f->name, f->name);
        f = print_pattern(f + 1);
        printf("} ->\n    ");
    }
    printf("{%s, ", m->name);
    print_field_map(m, "=>");
    printf("}");
    while (cases-- > 0)
        printf(";\n    _ -> error end");
}

/* Clauses, of which the last is to follow. */
static void print_clauses(const char *macro, void (*print)(const struct ctl_message_desc *))
{
    printf("-define(%s,\n", macro);
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++) {
        print(&ctl_messages[i]);
        puts(i + 1 < CTL_MESSAGE_COUNT ? ";" : "");
    }
    puts(").");
}

static void print_codec(void)
{
    puts("\n-define(CTL_UINT(V, Bits), is_integer(V), V >= 0, V < 1 bsl Bits).\n\n"
         "%% put_fields(Name, Ref, Fields) -> iodata()");
    print_clauses("CTL_PUT_FIELDS", print_put);
    puts("\n%% get_fields(Code, Binary) -> {Name, Fields} | error");
    print_clauses("CTL_GET_FIELDS", print_get);
}

static void print_hrl(void)
{
    puts("%% Made from c_src/ctl/ctl.def and c_src/ctl/counters.def by `make gen`; change those.\n"
         "%% The frame protocol as terms, and as clauses of the functions of meerkat_ctl.\n");
    printf("-define(CTL_MAGIC, 16#%08x).\n", CTL_MAGIC);
    printf("-define(CTL_VERSION, %d).\n", CTL_VERSION);
    printf("-define(CTL_TABLE_HASH, 16#%016" PRIx64 ").\n", ctl_table_hash());

    puts("\n%% {Name, Code, Way, [{Field, Type}]}\n-define(CTL_MESSAGES, [");
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++) {
        const struct ctl_message_desc *m = &ctl_messages[i];
        printf("    {%s, 16#%02x, %s, [", m->name, m->code, way_name(m->way));
        for (const struct ctl_field_desc *f = m->fields; f->name; f++)
            printf("%s\n        {%s, %s}", f == m->fields ? "" : ",", f->name, type_name(f));
        printf("]}%s\n", i + 1 < CTL_MESSAGE_COUNT ? "," : "");
    }

    puts("]).\n\n%% {Status, Code}\n-define(CTL_STATUSES, [");
    for (size_t i = 0; i < CTL_STATUS_COUNT; i++)
        printf("    {%s, %u}%s\n", ctl_statuses[i].name, ctl_statuses[i].code,
               i + 1 < CTL_STATUS_COUNT ? "," : "");

    puts("]).\n\n%% {Transport, Code}\n-define(CTL_TRANSPORTS, [");
    for (size_t i = 0; i < CTL_TRANSPORT_COUNT; i++)
        printf("    {%s, %u}%s\n", ctl_transports[i].name, ctl_transports[i].code,
               i + 1 < CTL_TRANSPORT_COUNT ? "," : "");

    puts("]).\n\n%% What both sides keep to.\n-define(CTL_LIMITS, #{");
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
        printf("    %s => %u%s\n", limits[i].name, limits[i].value,
               i + 1 < ARRAY_SIZE(limits) ? "," : "");

    puts("}).\n\n%% {Reason, Hint}\n-define(CTL_REASONS, [");
    for (size_t i = 0; i < CTL_REASON_COUNT; i++) {
        printf("    {<<");
        print_string(ctl_reasons[i].text);
        printf(">>,\n        <<");
        print_string(ctl_reasons[i].hint);
        printf(">>}%s\n", i + 1 < CTL_REASON_COUNT ? "," : "");
    }

    puts("]).\n\n%% {Name, counter | drop, Help}, in the order of stats_reply\n"
         "-define(CTL_COUNTERS, [");
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        printf("    {%s, %s,\n        ", ctl_counters[i].name,
               ctl_counters[i].is_drop ? "drop" : "counter");
        print_string(ctl_counters[i].help);
        printf("}%s\n", i + 1 < COUNTER_COUNT ? "," : "");
    }
    puts("]).");
    print_codec();
}

/* --- samples --- */

/*
 * The rule: n counts fields from 1 through the whole table, in a byte: 0 comes after 255. An
 * integer is n repeated in every byte; a status is row n mod CTL_STATUS_COUNT; an address is, by n
 * mod 3, none, n.n.n.n or the byte n sixteen times, with port n as an integer; bytes are n mod 7
 * times the byte n. The frame's ref is the number of its first field as a u32.
 */
static void sample_u8(uint8_t n, bool status, uint8_t *v)
{
    (void)status;
    *v = n;
}

static void sample_u16(uint8_t n, bool status, uint16_t *v)
{
    *v = status ? ctl_statuses[n % CTL_STATUS_COUNT].code : (uint16_t)(n * 0x0101u);
}

static void sample_u32(uint8_t n, bool status, uint32_t *v)
{
    (void)status;
    *v = n * 0x01010101u;
}

static void sample_u64(uint8_t n, bool status, uint64_t *v)
{
    (void)status;
    *v = n * 0x0101010101010101u;
}

static void sample_addr(uint8_t n, bool status, struct addr *v)
{
    uint8_t ip[16];

    (void)status;
    memset(ip, n, sizeof(ip));
    switch (n % 3) {
    case 0:
        *v = (struct addr){0};
        return;
    case 1:
        *v = addr_from_v4(ip, (uint16_t)(n * 0x0101u));
        return;
    default:
        *v = addr_from_v6(ip, (uint16_t)(n * 0x0101u));
    }
}

static void sample_bytes(uint8_t n, bool status, struct ctl_bytes *v)
{
    static uint8_t data[256][6];

    (void)status;
    memset(data[n], n, sizeof(data[n]));
    *v = ctl_bytes_of(data[n], n % 7u);
}

#define F(type, name) sample_##type(++n, is_status(#name), &m->name);
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    static uint8_t fill_##name(uint8_t n, struct ctl_##name *m)                                    \
    {                                                                                              \
        (void)m;                                                                                   \
        fields return n;                                                                           \
    }
#include "ctl.def"

/* Fills the members of u that f->code names; returns the number of its last field. */
static uint8_t fill_sample(uint8_t n, struct ctl_frame *f)
{
    f->ref = (uint8_t)(n + 1u) * 0x01010101u;
    switch (f->code) {
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    case CTL_##NAME:                                                                               \
        return fill_##name(n, &f->u.name);
#include "ctl.def"
    default:
        abort();
    }
}

static void print_hex(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        printf("%02x", data[i]);
    putchar('\n');
}

static void print_samples(void)
{
    uint8_t buf[CTL_PLAIN_MAX + 64];
    uint8_t n = 0;

    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++) {
        struct ctl_frame f = {.code = ctl_messages[i].code};
        n = fill_sample(n, &f);
        print_hex(buf, ctl_encode(&f, buf, sizeof(buf)));
    }
}

/* --- echo --- */

static size_t parse_hex(const char *line, uint8_t *out, size_t cap)
{
    size_t n = 0;
    unsigned byte;

    while (n < cap && sscanf(line + 2 * n, "%2x", &byte) == 1)
        out[n++] = (uint8_t)byte;
    return n;
}

static void echo(void)
{
    static char line[8192];
    static uint8_t in[sizeof(line) / 2], out[sizeof(line) / 2];
    struct ctl_frame f;
    enum ctl_err err;

    while (fgets(line, sizeof(line), stdin)) {
        size_t len = parse_hex(line, in, sizeof(in));
        if ((err = ctl_decode(&f, in, len)) != CTL_ERR_NONE)
            puts(ctl_err_name(err));
        else
            print_hex(out, ctl_encode(&f, out, sizeof(out)));
    }
}

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";

    if (strcmp(what, "protocol") == 0)
        print_protocol();
    else if (strcmp(what, "hrl") == 0)
        print_hrl();
    else if (strcmp(what, "sample") == 0)
        print_samples();
    else if (strcmp(what, "echo") == 0)
        echo();
    else {
        fprintf(stderr, "usage: gen protocol | hrl\n");
        return 2;
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("gen");
        return 1;
    }
    return 0;
}
