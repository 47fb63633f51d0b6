#include "numbered.h"

#include <stdlib.h>

enum { FIELDS_MAX = 64, ADDR_MAX = 1 + 2 + 16 };

/* Of a field of a frame: what to tell of it, and where the next one begins. */
struct part {
    const uint8_t *data;
    size_t len;
};

/* 0: no integer. */
static size_t width(const struct ctl_field_desc *f)
{
    return f->type[0] == 'u' ? (size_t)atoi(f->type + 1) / 8 : 0;
}

static bool is_bytes(const struct ctl_field_desc *f)
{
    return f->type[0] == 'b';
}

static size_t addr_len(uint8_t family)
{
    return family == ADDR_NONE ? 1 : family == ADDR_V4 ? 1 + 2 + 4 : ADDR_MAX;
}

static bool take_part(const struct ctl_field_desc *f, struct bytes *b, struct part *out)
{
    uint32_t len = (uint32_t)width(f);
    if (is_bytes(f) && !bytes_get32(b, &len))
        return false;
    if (!len && !is_bytes(f)) {
        if (!bytes_left(b))
            return false;
        len = (uint32_t)addr_len(*b->p);
    }
    out->len = len;
    return bytes_take(b, len, &out->data);
}

void numbered_put(struct wbytes *w, const uint8_t *frame, size_t len)
{
    struct bytes b = bytes_of(frame, len);
    const struct ctl_message_desc *m = len >= CTL_HEADER_LEN ? ctl_message_of(frame[0]) : NULL;
    const uint8_t *header;
    uint8_t *length = wbytes_room(w, 4);
    const uint8_t *start = w->p;
    if (!m || !length || !bytes_take(&b, CTL_HEADER_LEN, &header)) {
        w->overflow = true;
        return;
    }
    wbytes_put8(w, m->code);
    for (size_t i = 0; m->fields[i].name; i++) {
        struct part part;
        if (!take_part(&m->fields[i], &b, &part)) {
            w->overflow = true;
            return;
        }
        wbytes_put8(w, (uint8_t)(i + 1));
        wbytes_put32(w, (uint32_t)part.len);
        wbytes_put(w, part.data, part.len);
    }
    if (!w->overflow)
        store32(length, (uint32_t)(w->p - start));
}

/* ----------------------------------------------------------------------------------- reading */

/* What is larger than this build's field is as large as that can be. */
static void put_integer(struct wbytes *w, const struct part *part, size_t bytes)
{
    uint64_t v = 0, most = bytes == 8 ? UINT64_MAX : (1ULL << bytes * 8) - 1;
    for (size_t i = 0; i < part->len; i++)
        v = v >> 56 ? UINT64_MAX : v << 8 | part->data[i];
    v = MIN(v, most);
    for (size_t i = bytes; i-- > 0;)
        wbytes_put8(w, (uint8_t)(v >> i * 8));
}

static void put_addr(struct wbytes *w, const struct part *part)
{
    bool whole = part->len && (part->data[0] == ADDR_V4 || part->data[0] == ADDR_V6) &&
                 part->len == addr_len(part->data[0]);
    if (whole)
        wbytes_put(w, part->data, part->len);
    else
        wbytes_put8(w, ADDR_NONE);
}

static void put_field(struct wbytes *w, const struct ctl_field_desc *f, const struct part *part)
{
    if (width(f)) {
        put_integer(w, part, width(f));
    } else if (is_bytes(f)) {
        wbytes_put32(w, (uint32_t)part->len);
        wbytes_put(w, part->data, part->len);
    } else {
        put_addr(w, part);
    }
}

/* By their numbers; those beyond FIELDS_MAX are of a build that has so many, and are skipped. */
static bool read_parts(struct bytes *b, struct part parts[FIELDS_MAX])
{
    while (bytes_left(b)) {
        uint8_t number;
        uint32_t len;
        struct part part;
        if (!bytes_get8(b, &number) || !bytes_get32(b, &len) || !bytes_take(b, len, &part.data))
            return false;
        part.len = len;
        if (number > 0 && number <= FIELDS_MAX)
            parts[number - 1] = part;
    }
    return true;
}

enum numbered numbered_get(struct bytes *b, struct wbytes *frame)
{
    struct part parts[FIELDS_MAX] = {{NULL, 0}};
    const uint8_t *data;
    uint32_t len;
    uint8_t code;
    if (!bytes_left(b))
        return NUMBERED_END;
    if (!bytes_get32(b, &len) || !bytes_take(b, len, &data))
        return NUMBERED_BAD;
    struct bytes message = bytes_of(data, len);
    if (!bytes_get8(&message, &code))
        return NUMBERED_BAD;
    const struct ctl_message_desc *m = ctl_message_of(code);
    if (!m)
        return NUMBERED_UNKNOWN;
    if (!read_parts(&message, parts))
        return NUMBERED_BAD;
    wbytes_put8(frame, code);
    wbytes_put8(frame, 0);
    wbytes_put16(frame, 0);
    wbytes_put32(frame, 0);
    for (size_t i = 0; m->fields[i].name; i++)
        put_field(frame, &m->fields[i], &parts[i]);
    return frame->overflow ? NUMBERED_BAD : NUMBERED_FRAME;
}
