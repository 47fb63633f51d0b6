/*
 * The relay's program in the kernel, and the memory it shares with us (docs/design/offload.md): it
 * is loaded, attached to interfaces, and given entries. What deserves one is decided elsewhere.
 *
 * Only this room knows libbpf. Built without it, offload_open says so and does nothing.
 */
#ifndef MEERKAT_OFFLOAD_H
#define MEERKAT_OFFLOAD_H

#include <stdatomic.h>

#include "base.h"
#include "entry.h"

/* The values of offload in ctl.def. */
enum offload_way { OFFLOAD_OFF = 0, OFFLOAD_AUTO = 1, OFFLOAD_XDP = 2, OFFLOAD_TC = 3 };

enum { OFFLOAD_WHY_MAX = 256, OFFLOAD_INTERFACES = 32 };

struct offload;

/* Loads it, for XDP or TC (never AUTO). NULL, and why in one line. Nothing is attached yet. */
struct offload *offload_open(enum offload_way way, char why[OFFLOAD_WHY_MAX]);

/* From here on the program sees what comes in there. How, in a word ("tcx"); NULL, and why not. */
const char *offload_attach(struct offload *o, unsigned interface, char why[OFFLOAD_WHY_MAX]);

/* Detaches and forgets. NULL is fine. A process that dies does the same, but for clsact, whose
 * program then finds its entries over, and goes when the next one comes. */
void offload_close(struct offload *o);

/* What auto comes to. TC works on every interface, leaves the next hop to the kernel, and loses
 * nothing where a driver cannot do all of XDP. */
static inline enum offload_way offload_chosen(enum offload_way wanted)
{
    return wanted == OFFLOAD_AUTO ? OFFLOAD_TC : wanted;
}

enum offload_way offload_is_by(const struct offload *o);

/* TTL or hop limit of what sockets of this host send (family 4, 6). */
uint8_t offload_hops(const struct offload *o, uint8_t family);

/* ---- Any thread, each with entries of its own ---- */

struct offload_entry *offload_entry(struct offload *o, uint32_t index);
struct offload_governor *offload_governor(struct offload *o, unsigned worker);

/* Packets with that key find the entry, or none. 0 or -errno. */
int offload_lead(struct offload *o, const struct offload_key *key, uint32_t index, uint64_t number);
int offload_unlead(struct offload *o, const struct offload_key *key);

/* What another program reads meanwhile is written whole. */
#define OFFLOAD_SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
#define OFFLOAD_GET(field)        __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

/* Runs the program over a frame that nobody sent, for tests: what is left in `frame` (room: cap)
 * and its length, and the program's verdict; or -errno. */
int offload_try(struct offload *o, uint8_t *frame, uint32_t *len, uint32_t cap, uint32_t *verdict);

#endif
