/*
 * Any bytes into ctl_decode(): what it takes must encode to the same bytes, in exactly that room
 * and in no less, and each string in it must lie within the input. Knows no relay.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool held)
{
    if (!held)
        abort();
}

static void check_addresses(struct ctl_bytes list, const uint8_t *data, size_t len)
{
    struct bytes cur = ctl_cursor(list);
    struct addr a;
    uint8_t buf[19];

    require(list.data >= data && list.data + list.len <= data + len);
    for (;;) {
        const uint8_t *before = cur.p;
        if (!ctl_next_addr(&cur, &a)) {
            require(cur.p == before);
            return;
        }
        struct wbytes w = wbytes_of(buf, sizeof(buf));
        ctl_put_addr(&w, &a);
        require(!w.overflow && wbytes_len(&w) == (size_t)(cur.p - before));
        require(memcmp(buf, before, wbytes_len(&w)) == 0);
    }
}

static void check_bytes(const struct ctl_bytes *v, const uint8_t *data, size_t len)
{
    check_addresses(*v, data, len);
}

/* Integers and addresses are held to account by their encoding. */
#define check_u8(v, data, len)   (void)(v)
#define check_u16(v, data, len)  (void)(v)
#define check_u32(v, data, len)  (void)(v)
#define check_u64(v, data, len)  (void)(v)
#define check_addr(v, data, len) (void)(v)

#define F(type, name) check_##type(&m->name, data, len);
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    static void check_message_##name(const struct ctl_##name *m, const uint8_t *data, size_t len)  \
    {                                                                                              \
        (void)m, (void)data, (void)len;                                                            \
        fields                                                                                     \
    }
#include "ctl.def"

static void check_fields(const struct ctl_frame *f, const uint8_t *data, size_t len)
{
    switch (f->code) {
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    case CTL_##NAME:                                                                               \
        check_message_##name(&f->u.name, data, len);                                               \
        return;
#include "ctl.def"
    default:
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct ctl_frame f;
    uint8_t *buf;

    if (ctl_decode(&f, data, len) != CTL_ERR_NONE)
        return 0;
    require(ctl_code_way(f.code) != CTL_NOWHERE);
    check_fields(&f, data, len);
    buf = malloc(len);
    require(buf != NULL);
    require(ctl_encode(&f, buf, len) == len);
    require(memcmp(buf, data, len) == 0);
    require(ctl_encode(&f, buf, len - 1) == 0);
    free(buf);
    return 0;
}
