/*
 * Frames, made from the rows of ctl.def: for each message one decoder and one encoder that walk
 * its fields in order. Nothing here names a message.
 */
#include "ctl.h"

#include <inttypes.h>

/* --- fields: read one, write one --- */

static enum ctl_err get_u8(struct bytes *b, uint8_t *v)
{
    return bytes_get8(b, v) ? CTL_ERR_NONE : CTL_ERR_SHORT;
}

static enum ctl_err get_u16(struct bytes *b, uint16_t *v)
{
    return bytes_get16(b, v) ? CTL_ERR_NONE : CTL_ERR_SHORT;
}

static enum ctl_err get_u32(struct bytes *b, uint32_t *v)
{
    return bytes_get32(b, v) ? CTL_ERR_NONE : CTL_ERR_SHORT;
}

static enum ctl_err get_u64(struct bytes *b, uint64_t *v)
{
    return bytes_get64(b, v) ? CTL_ERR_NONE : CTL_ERR_SHORT;
}

static enum ctl_err get_addr(struct bytes *b, struct addr *v)
{
    const uint8_t *ip;
    uint16_t port;
    uint8_t family;

    if (!bytes_get8(b, &family))
        return CTL_ERR_SHORT;
    switch (family) {
    case ADDR_NONE:
        *v = (struct addr){0};
        return CTL_ERR_NONE;
    case ADDR_V4:
        if (!bytes_get16(b, &port) || !bytes_take(b, 4, &ip))
            return CTL_ERR_SHORT;
        *v = addr_from_v4(ip, port);
        return CTL_ERR_NONE;
    case ADDR_V6:
        if (!bytes_get16(b, &port) || !bytes_take(b, 16, &ip))
            return CTL_ERR_SHORT;
        *v = addr_from_v6(ip, port);
        return CTL_ERR_NONE;
    default:
        return CTL_ERR_FAMILY;
    }
}

static enum ctl_err get_bytes(struct bytes *b, struct ctl_bytes *v)
{
    if (!bytes_get32(b, &v->len) || !bytes_take(b, v->len, &v->data))
        return CTL_ERR_SHORT;
    return CTL_ERR_NONE;
}

static void put_u8(struct wbytes *w, const uint8_t *v)
{
    wbytes_put8(w, *v);
}

static void put_u16(struct wbytes *w, const uint16_t *v)
{
    wbytes_put16(w, *v);
}

static void put_u32(struct wbytes *w, const uint32_t *v)
{
    wbytes_put32(w, *v);
}

static void put_u64(struct wbytes *w, const uint64_t *v)
{
    wbytes_put64(w, *v);
}

static void put_addr(struct wbytes *w, const struct addr *v)
{
    wbytes_put8(w, v->family);
    switch (v->family) {
    case ADDR_NONE:
        return;
    case ADDR_V4:
        wbytes_put16(w, v->port);
        wbytes_put(w, addr_v4(v), 4);
        return;
    case ADDR_V6:
        wbytes_put16(w, v->port);
        wbytes_put(w, v->ip, 16);
        return;
    default:
        w->overflow = true;
    }
}

static void put_bytes(struct wbytes *w, const struct ctl_bytes *v)
{
    wbytes_put32(w, v->len);
    wbytes_put(w, v->data, v->len);
}

/* --- messages: decode_hello(), encode_hello(), ... --- */

#define F(type, name)                                                                              \
    if (err == CTL_ERR_NONE)                                                                       \
        err = get_##type(b, &m->name);
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    static enum ctl_err decode_##name(struct bytes *b, struct ctl_##name *m)                       \
    {                                                                                              \
        enum ctl_err err = CTL_ERR_NONE;                                                           \
        (void)b, (void)m;                                                                          \
        fields return err;                                                                         \
    }
#include "ctl.def"

#define F(type, name) put_##type(w, &m->name);
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    static void encode_##name(struct wbytes *w, const struct ctl_##name *m)                        \
    {                                                                                              \
        (void)w, (void)m;                                                                          \
        fields                                                                                     \
    }
#include "ctl.def"

static enum ctl_err decode_fields(struct ctl_frame *f, struct bytes *b)
{
    switch (f->code) {
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    case CTL_##NAME:                                                                               \
        return decode_##name(b, &f->u.name);
#include "ctl.def"
    default:
        return CTL_ERR_CODE;
    }
}

enum ctl_err ctl_decode(struct ctl_frame *out, const uint8_t *data, size_t len)
{
    struct bytes b = bytes_of(data, len);
    struct ctl_frame f;
    enum ctl_err err;
    uint16_t zeros;
    uint8_t zero;

    if (!bytes_get8(&b, &f.code) || !bytes_get8(&b, &zero) || !bytes_get16(&b, &zeros) ||
        !bytes_get32(&b, &f.ref))
        return CTL_ERR_SHORT;
    if (zero != 0 || zeros != 0)
        return CTL_ERR_RESERVED;
    if ((err = decode_fields(&f, &b)) != CTL_ERR_NONE)
        return err;
    if (bytes_left(&b) != 0)
        return CTL_ERR_TRAILING;
    *out = f;
    return CTL_ERR_NONE;
}

size_t ctl_encode(const struct ctl_frame *f, uint8_t *buf, size_t cap)
{
    struct wbytes w = wbytes_of(buf, cap);

    wbytes_put8(&w, f->code);
    wbytes_put8(&w, 0);
    wbytes_put16(&w, 0);
    wbytes_put32(&w, f->ref);
    switch (f->code) {
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    case CTL_##NAME:                                                                               \
        encode_##name(&w, &f->u.name);                                                             \
        break;
#include "ctl.def"
    default:
        return 0;
    }
    return w.overflow ? 0 : wbytes_len(&w);
}

bool ctl_next_addr(struct bytes *cur, struct addr *out)
{
    struct bytes b = *cur;

    if (get_addr(&b, out) != CTL_ERR_NONE)
        return false;
    *cur = b;
    return true;
}

void ctl_put_addr(struct wbytes *w, const struct addr *a)
{
    put_addr(w, a);
}

/* --- the tables as data --- */

#define F(type, name) {#type, #name},
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    static const struct ctl_field_desc fields_of_##name[] = {fields{NULL, NULL}};
#include "ctl.def"

const struct ctl_message_desc ctl_messages[CTL_MESSAGE_COUNT] = {
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    {#name, code, CTL_##way, fields_of_##name, meaning},
#include "ctl.def"
};

const struct ctl_status_desc ctl_statuses[CTL_STATUS_COUNT] = {
#define STATUS(NAME, name, code, meaning) {#name, code, meaning},
#include "ctl.def"
};

const struct ctl_transport_desc ctl_transports[CTL_TRANSPORT_COUNT] = {
#define TRANSPORT(NAME, name, code, meaning) {#name, code, meaning},
#include "ctl.def"
};

const struct counter_desc ctl_counters[COUNTER_COUNT] = {
#define COUNTER(name, help) {#name, help, false},
#define DROP(name, help)    {#name, help, true},
#include "counters.def"
};

const struct ctl_reason_desc ctl_reasons[CTL_REASON_COUNT] = {
#define REASON(NAME, text, hint) {text, hint},
#include "ctl.def"
};

const struct ctl_message_desc *ctl_message_of(uint8_t code)
{
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++)
        if (ctl_messages[i].code == code)
            return &ctl_messages[i];
    return NULL;
}

const char *ctl_code_name(uint8_t code)
{
    const struct ctl_message_desc *m = ctl_message_of(code);
    return m ? m->name : "unknown";
}

enum ctl_way ctl_code_way(uint8_t code)
{
    const struct ctl_message_desc *m = ctl_message_of(code);
    return m ? m->way : CTL_NOWHERE;
}

const char *ctl_status_name(uint16_t status)
{
    for (size_t i = 0; i < CTL_STATUS_COUNT; i++)
        if (ctl_statuses[i].code == status)
            return ctl_statuses[i].name;
    return "unknown";
}

const char *ctl_err_name(enum ctl_err err)
{
    switch (err) {
    case CTL_ERR_NONE:
        return "none";
    case CTL_ERR_SHORT:
        return "short";
    case CTL_ERR_RESERVED:
        return "reserved";
    case CTL_ERR_CODE:
        return "code";
    case CTL_ERR_FAMILY:
        return "family";
    case CTL_ERR_TRAILING:
        return "trailing";
    }
    return "unknown";
}

/* One string a row; its NUL keeps a row's end from passing for the next one's beginning. */
static const char *const hashed[] = {
#define MSG(NAME, name, code, way, fields, meaning) #name " " #code " " #way " " #fields,
#define STATUS(NAME, name, code, meaning)           #name " " #code,
#define LIMIT(NAME, name, value, meaning)           #name " " #value,
#define TRANSPORT(NAME, name, code, meaning)        "transport " #name " " #code,
#include "ctl.def"
#define COUNTER(name, help) #name " counter",
#define DROP(name, help)    #name " drop",
#include "counters.def"
};

uint64_t ctl_table_hash(void)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < ARRAY_SIZE(hashed); i++) {
        const char *s = hashed[i];
        do
            h = (h ^ (uint8_t)*s) * 0x100000001b3u;
        while (*s++);
    }
    return h;
}

void ctl_dump(FILE *out)
{
    fprintf(out, "version %d hash %016" PRIx64 "\n", CTL_VERSION, ctl_table_hash());
    for (size_t i = 0; i < CTL_MESSAGE_COUNT; i++) {
        const struct ctl_message_desc *m = &ctl_messages[i];
        static const char *const ways[] = {"nowhere", "e2r", "r2e", "r2r"};
        fprintf(out, "message %s 0x%02x %s", m->name, m->code, ways[m->way]);
        for (const struct ctl_field_desc *f = m->fields; f->name; f++)
            fprintf(out, " %s:%s", f->name, f->type);
        putc('\n', out);
    }
    for (size_t i = 0; i < CTL_STATUS_COUNT; i++)
        fprintf(out, "status %s %u\n", ctl_statuses[i].name, ctl_statuses[i].code);
    for (size_t i = 0; i < CTL_TRANSPORT_COUNT; i++)
        fprintf(out, "transport %s %u\n", ctl_transports[i].name, ctl_transports[i].code);
    for (size_t i = 0; i < COUNTER_COUNT; i++)
        fprintf(out, "%s %s\n", ctl_counters[i].is_drop ? "drop" : "counter", ctl_counters[i].name);
}
