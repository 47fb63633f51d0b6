#include "front.h"

#include <stdlib.h>
#include <string.h>

/* Of a network: u8 bits, 16 bytes of prefix, IPv4 as ::ffff:0:0/96 + n. */
static bool read_networks(struct front *f, struct bytes b)
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    while (bytes_left(&b) > 0) {
        struct front_network *n = &f->proxies[f->proxy_count];
        const uint8_t *prefix;
        if (f->proxy_count++ == FRONT_PROXIES_MAX || !bytes_get8(&b, &n->bits) || n->bits > 128 ||
            !bytes_take(&b, sizeof(n->prefix), &prefix))
            return false;
        memcpy(n->prefix, prefix, sizeof(n->prefix));
        n->family = n->bits >= 96 && memcmp(prefix, mapped, 12) == 0 ? ADDR_V4 : ADDR_V6;
    }
    return true;
}

/* u8 family (0 none, 4, 6), then unless 0 u16 port and the IP, as everywhere in ctl.def. */
static bool read_backend(struct bytes *b, struct addr *out)
{
    uint8_t family;
    uint16_t port;
    const uint8_t *ip;
    *out = (struct addr){0};
    if (!bytes_get8(b, &family))
        return false;
    if (family == ADDR_NONE)
        return true;
    if ((family != ADDR_V4 && family != ADDR_V6) || !bytes_get16(b, &port) || port == 0 ||
        !bytes_take(b, family == ADDR_V4 ? 4 : 16, &ip))
        return false;
    *out = family == ADDR_V4 ? addr_from_v4(ip, port) : addr_from_v6(ip, port);
    return true;
}

/* u8 length, name, address of its web server, each; the empty name stands for all others. */
static bool read_names(struct front *f, struct bytes b)
{
    while (bytes_left(&b) > 0) {
        uint8_t len;
        const uint8_t *text;
        struct addr backend;
        if (!bytes_get8(&b, &len) || !bytes_take(&b, len, &text) || !read_backend(&b, &backend))
            return false;
        if (len == 0) {
            f->backend = backend;
            continue;
        }
        if (f->name_count == FRONT_NAMES_MAX)
            return false;
        struct front_name *n = &f->names[f->name_count++];
        memcpy(n->name, text, len);
        n->backend = backend;
        f->has_own = f->has_own || backend.family == ADDR_NONE;
    }
    return true;
}

struct front *front_make(struct bytes proxies, bool datagrams, struct bytes names, bool tells)
{
    struct front *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    atomic_init(&f->holds, 1);
    f->datagrams = datagrams;
    f->tells = tells;
    if (read_networks(f, proxies) && read_names(f, names))
        return f;
    free(f);
    return NULL;
}

struct front *front_hold(struct front *f)
{
    if (f)
        atomic_fetch_add(&f->holds, 1);
    return f;
}

void front_drop(struct front *f)
{
    if (f && atomic_fetch_sub(&f->holds, 1) == 1)
        free(f);
}

bool front_is_proxy(const struct front *f, const struct addr *from)
{
    for (uint32_t i = 0; f && i < f->proxy_count; i++) {
        const struct front_network *n = &f->proxies[i];
        if (n->family == from->family && addr_in_prefix(from->ip, n->prefix, n->bits))
            return true;
    }
    return false;
}

/* A star stands for one label, as in certificates (RFC 6125 6.4.3). */
static bool is_for(const char *pattern, const char *name)
{
    const char *rest = strchr(name, '.');
    if (strncmp(pattern, "*.", 2) != 0)
        return strcmp(pattern, name) == 0;
    return rest && rest != name && strcmp(pattern + 1, rest) == 0;
}

/* The name itself comes before a star that is for it. */
static const struct front_name *find(const struct front *f, const char *name)
{
    const struct front_name *found = NULL;
    for (uint32_t i = 0; i < f->name_count; i++) {
        const struct front_name *n = &f->names[i];
        if (strcmp(n->name, name) == 0)
            return n;
        if (!found && is_for(n->name, name))
            found = n;
    }
    return found;
}

enum front_verdict front_judge(const struct front *f, const char *name, const struct addr **backend)
{
    const struct front_name *n = find(f, name);
    *backend = NULL;
    if (n && n->backend.family == ADDR_NONE)
        return FRONT_OURS;
    *backend = n ? &n->backend : front_default(f);
    if (n || (f->has_own && *backend))
        return FRONT_WEB;
    return FRONT_UNNAMED;
}
