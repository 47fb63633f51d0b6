#include "certificates.h"

#include <string.h>
#include <time.h>

/* The place of a number, or a free one; -1 when there is none. */
static int place_of(const struct control *c, uint32_t id)
{
    int free = -1;
    for (int i = CERTS_MAX - 1; i >= 0; i--) {
        if (c->certs[i].id == id)
            return i;
        if (c->certs[i].id == 0)
            free = i;
    }
    return free;
}

static bool take_text(struct bytes *b, struct tls_text *text)
{
    uint32_t n;
    const uint8_t *p;
    if (!bytes_get32(b, &n) || !bytes_take(b, n, &p))
        return false;
    *text = (struct tls_text){p, n};
    return true;
}

/* How many pairs there are; 0 when the bytes are none. */
static unsigned read_pairs(struct ctl_bytes bytes, struct tls_pair pairs[TLS_PAIRS_MAX])
{
    struct bytes b = ctl_cursor(bytes);
    struct tls_text chain, key;
    unsigned n = 0;
    while (n < TLS_PAIRS_MAX && bytes_left(&b) > 0) {
        if (!take_text(&b, &chain) || !take_text(&b, &key))
            return 0;
        pairs[n++] = (struct tls_pair){chain.data, chain.len, key.data, key.len};
    }
    return bytes_left(&b) ? 0 : n;
}

/* False when the bytes are no files. */
static bool read_clients(const struct ctl_certificates *m, struct tls_clients *out)
{
    struct bytes b = ctl_cursor(m->clients);
    *out = (struct tls_clients){.required = m->required};
    while (out->n < TLS_CLIENT_FILES_MAX && bytes_left(&b) > 0)
        if (!take_text(&b, &out->files[out->n++]))
            return false;
    return bytes_left(&b) == 0;
}

static void certified(struct control *c, const struct ctl_frame *f, unsigned pair,
                      const struct tls_store *store, const char *why)
{
    struct ctl_frame out = {
        .code = CTL_CERTIFIED,
        .ref = f->ref,
        .u.certified = {.certificates = f->u.certificates.certificates,
                        .status = store ? CTL_OK : CTL_REFUSED,
                        .pair = (uint16_t)pair,
                        .not_after = store ? (uint64_t)tls_store_not_after(store) : 0,
                        .detail = ctl_bytes_of(why, strlen(why))}};
    pipe_send(&c->pipe, &out);
}

void certs_set(struct control *c, const struct ctl_frame *f)
{
    const struct ctl_certificates *m = &f->u.certificates;
    struct tls_pair pairs[TLS_PAIRS_MAX];
    struct tls_clients clients;
    char why[TLS_WHY_MAX];
    unsigned bad = 0, n = read_pairs(m->pairs, pairs);
    int place = place_of(c, m->certificates);
    if (!c->workers || m->certificates == 0 || place < 0 || m->secret.len != TLS_SECRET_LEN ||
        !read_clients(m, &clients)) {
        certified(c, f, 0, NULL, "no CONFIG yet, or value out of range");
        return;
    }
    /* Certificates are compared with the wall clock, also where the relay's clock runs faster. */
    const struct tls_wanted wanted = {.pairs = pairs,
                                      .n = n,
                                      .clients = &clients,
                                      .secret = m->secret.data,
                                      .threads = c->handshake_threads,
                                      .now_s = m->in_force ? TLS_ANY_TIME : (int64_t)time(NULL)};
    struct tls_store *store = tls_store_load(&wanted, &bad, why);
    certified(c, f, bad, store, store ? "" : why);
    if (!store)
        return;
    tls_store_release(c->certs[place].store);
    c->certs[place].store = store;
    c->certs[place].id = m->certificates;
}

struct tls_store *certs_hold(const struct control *c, uint32_t id)
{
    int place = id ? place_of(c, id) : -1;
    struct tls_store *store = place < 0 ? NULL : c->certs[place].store;
    return store ? tls_store_hold(store) : NULL;
}

void certs_destroy(struct control *c)
{
    for (int i = 0; i < CERTS_MAX; i++) {
        tls_store_release(c->certs[i].store);
        c->certs[i].store = NULL;
    }
}
