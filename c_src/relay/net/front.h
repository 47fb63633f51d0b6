/*
 * Proxies in front of us, which are believed when they say who a client is, and web servers behind
 * us, which get the TLS connections that are not for us.
 *
 * Immutable once made, and shared like a policy: the control thread makes one when Erlang says so,
 * and mails it to every worker; the last hold that is dropped frees it. Where there is neither,
 * workers have NULL, for which every function here has an answer.
 */
#ifndef MEERKAT_FRONT_H
#define MEERKAT_FRONT_H

#include <stdatomic.h>

#include "addr.h"
#include "bytes.h"
#include "hello.h"

/* As in FRONT (ctl.def). */
enum { FRONT_PROXIES_MAX = 1024, FRONT_NAMES_MAX = 64 };

struct front_network {
    uint8_t prefix[16];
    uint8_t bits;
    uint8_t family;
};

struct front_name {
    char name[HELLO_NAME_MAX + 1]; /* in small letters; "*." at its beginning: any one label */
    struct addr backend;           /* none: it is ours */
};

struct front {
    _Atomic uint32_t holds;
    bool datagrams; /* of those proxies have a header each */
    bool tells;     /* web servers are told who the client is, by a header */
    uint32_t proxy_count, name_count;
    bool has_own;        /* some names are said to be ours: only those are */
    struct addr backend; /* for any other name; none: there is none */
    struct front_network proxies[FRONT_PROXIES_MAX];
    struct front_name names[FRONT_NAMES_MAX];
};

/* From the bytes of FRONT (ctl.def). NULL when they are malformed or memory is out. */
struct front *front_make(struct bytes proxies, bool datagrams, struct bytes names, bool tells);
struct front *front_hold(struct front *f);
void front_drop(struct front *f); /* NULL is fine */

/* Is what comes from there a proxy's, with a header before it? */
bool front_is_proxy(const struct front *f, const struct addr *from);

/* The same for a datagram. */
static inline bool front_is_proxy_of_datagrams(const struct front *f, const struct addr *from)
{
    return f->datagrams && front_is_proxy(f, from);
}

/* Does it depend on the hello whether a connection is for us? */
static inline bool front_reads_hello(const struct front *f)
{
    return f && f->name_count + (f->backend.family != ADDR_NONE) > 0;
}

enum front_verdict {
    FRONT_OURS,
    FRONT_WEB,     /* for the web server named */
    FRONT_UNNAMED, /* for the one of other names, if there is one and no certificate has the name */
};

/* Where a connection belongs that asks for this name; *backend for FRONT_WEB. */
enum front_verdict front_judge(const struct front *f, const char *name,
                               const struct addr **backend);

/* The web server of other names; NULL without. */
static inline const struct addr *front_default(const struct front *f)
{
    return f->backend.family != ADDR_NONE ? &f->backend : NULL;
}

#endif
