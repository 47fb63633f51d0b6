/*
 * Bounded cursors over bytes, big endian. The only place that reads or writes through a moving
 * pointer: a reader never passes its end, a writer never passes its end and remembers that it
 * would have. Loads and stores go byte by byte, so alignment never matters.
 */
#ifndef MEERKAT_BYTES_H
#define MEERKAT_BYTES_H

#include <string.h>

#include "base.h"

/* A reader. Each get returns false, and moves nothing, when the bytes are not there. */
struct bytes {
    const uint8_t *p;
    const uint8_t *end;
};

static inline struct bytes bytes_of(const void *data, size_t len)
{
    const uint8_t *p = data;
    return (struct bytes){p, p + len};
}

static inline size_t bytes_left(const struct bytes *b)
{
    return (size_t)(b->end - b->p);
}

static inline uint16_t load16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t load64(const uint8_t *p)
{
    return (uint64_t)load32(p) << 32 | load32(p + 4);
}

static inline void store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void store32(uint8_t *p, uint32_t v)
{
    store16(p, (uint16_t)(v >> 16));
    store16(p + 2, (uint16_t)v);
}

static inline void store64(uint8_t *p, uint64_t v)
{
    store32(p, (uint32_t)(v >> 32));
    store32(p + 4, (uint32_t)v);
}

static inline bool bytes_take(struct bytes *b, size_t n, const uint8_t **out)
{
    if (bytes_left(b) < n)
        return false;
    *out = b->p;
    b->p += n;
    return true;
}

static inline bool bytes_get8(struct bytes *b, uint8_t *v)
{
    const uint8_t *p;
    if (!bytes_take(b, 1, &p))
        return false;
    *v = p[0];
    return true;
}

static inline bool bytes_get16(struct bytes *b, uint16_t *v)
{
    const uint8_t *p;
    if (!bytes_take(b, 2, &p))
        return false;
    *v = load16(p);
    return true;
}

static inline bool bytes_get32(struct bytes *b, uint32_t *v)
{
    const uint8_t *p;
    if (!bytes_take(b, 4, &p))
        return false;
    *v = load32(p);
    return true;
}

static inline bool bytes_get64(struct bytes *b, uint64_t *v)
{
    const uint8_t *p;
    if (!bytes_take(b, 8, &p))
        return false;
    *v = load64(p);
    return true;
}

/* A writer. Once something did not fit, `overflow` stays set and nothing more is written. */
struct wbytes {
    uint8_t *start;
    uint8_t *p;
    uint8_t *end;
    bool overflow;
};

static inline struct wbytes wbytes_of(void *data, size_t cap)
{
    uint8_t *p = data;
    return (struct wbytes){p, p, p + cap, false};
}

static inline size_t wbytes_len(const struct wbytes *w)
{
    return (size_t)(w->p - w->start);
}

/* Reserves n bytes; NULL when they do not fit. */
static inline uint8_t *wbytes_room(struct wbytes *w, size_t n)
{
    uint8_t *p = w->p;
    if (w->overflow || (size_t)(w->end - w->p) < n) {
        w->overflow = true;
        return NULL;
    }
    w->p += n;
    return p;
}

static inline void wbytes_put(struct wbytes *w, const void *data, size_t n)
{
    uint8_t *p = wbytes_room(w, n);
    if (p && n)
        memcpy(p, data, n);
}

static inline void wbytes_put8(struct wbytes *w, uint8_t v)
{
    wbytes_put(w, &v, 1);
}

static inline void wbytes_put16(struct wbytes *w, uint16_t v)
{
    uint8_t bytes[2];
    store16(bytes, v);
    wbytes_put(w, bytes, sizeof(bytes));
}

static inline void wbytes_put32(struct wbytes *w, uint32_t v)
{
    uint8_t bytes[4];
    store32(bytes, v);
    wbytes_put(w, bytes, sizeof(bytes));
}

static inline void wbytes_put64(struct wbytes *w, uint64_t v)
{
    uint8_t bytes[8];
    store64(bytes, v);
    wbytes_put(w, bytes, sizeof(bytes));
}

#endif
