/*
 * The frames of ctl.def as C: a struct per message, a decoder, an encoder, and the tables behind
 * them for whoever prints or checks them; the counters of counters.def. Data in, data out: no
 * allocation, no I/O but ctl_dump(), no idea what a command does.
 *
 * A frame here is what {packet,4} delimits: without its 4 bytes of length.
 */
#ifndef MEERKAT_CTL_H
#define MEERKAT_CTL_H

#include <stdio.h>

#include "addr.h"
#include "bytes.h"

#define CTL_MAGIC 0x4d4b5254u /* "MKRT" */

enum { CTL_VERSION = 1, CTL_HEADER_LEN = 8 };

/* CTL_HELLO = 0x01, ... */
enum ctl_code {
#define MSG(NAME, name, code, way, fields, meaning) CTL_##NAME = code,
#include "ctl.def"
};

/* CTL_OK = 0, CTL_GONE, ...: what fields called status* hold. */
enum ctl_status {
#define STATUS(NAME, name, code, meaning) CTL_##NAME = code,
#include "ctl.def"
};

/* CTL_WORKERS_MAX, ... */
enum ctl_limit {
#define LIMIT(NAME, name, value, meaning) CTL_##NAME = value,
#include "ctl.def"
};

/* CTL_TRANSPORT_UDP, ...: what fields called transport hold. A kind of its own, for several
 * transports have one protocol number. */
enum ctl_transport {
#define TRANSPORT(NAME, name, code, meaning) CTL_TRANSPORT_##NAME = code,
#include "ctl.def"
};

/* CTL_WHY_OWN_ADDRESS, ...: rows of ctl_reasons. */
enum ctl_reason {
#define REASON(NAME, text, hint) CTL_WHY_##NAME,
#include "ctl.def"
    CTL_REASON_COUNT
};

/* Bytes owned by whoever made the frame; after ctl_decode() they lie in its input. */
struct ctl_bytes {
    const uint8_t *data;
    uint32_t len;
};

/* struct ctl_hello { uint32_t magic; uint16_t version; ... }, one for each message. */
typedef uint8_t ctl_type_u8;
typedef uint16_t ctl_type_u16;
typedef uint32_t ctl_type_u32;
typedef uint64_t ctl_type_u64;
typedef struct addr ctl_type_addr;
typedef struct ctl_bytes ctl_type_bytes;

#define F(type, name) ctl_type_##type name;
#define MSG(NAME, name, code, way, fields, meaning)                                                \
    struct ctl_##name {                                                                            \
        fields                                                                                     \
    };
#include "ctl.def"

struct ctl_frame {
    uint8_t code; /* enum ctl_code; says which member of u counts */
    uint32_t ref; /* a command's, repeated in its reply; 0 in events */
    union {
#define MSG(NAME, name, code, way, fields, meaning) struct ctl_##name name;
#include "ctl.def"
    } u;
};

/* Room for any frame whose bytes fields are empty; add their lengths for any other. */
union ctl_plain {
#define CTL_SIZE_u8                                 1
#define CTL_SIZE_u16                                2
#define CTL_SIZE_u32                                4
#define CTL_SIZE_u64                                8
#define CTL_SIZE_addr                               19
#define CTL_SIZE_bytes                              4
#define F(type, name)                               +CTL_SIZE_##type
#define MSG(NAME, name, code, way, fields, meaning) uint8_t name[CTL_HEADER_LEN fields];
#include "ctl.def"
};
enum { CTL_PLAIN_MAX = sizeof(union ctl_plain) };

/* Why bytes are not a frame. */
enum ctl_err {
    CTL_ERR_NONE = 0,
    CTL_ERR_SHORT,    /* ends within its header or a field */
    CTL_ERR_RESERVED, /* the zeros of the header are not */
    CTL_ERR_CODE,     /* no such message */
    CTL_ERR_FAMILY,   /* an address of family other than 0, 4, 6 */
    CTL_ERR_TRAILING, /* bytes after the last field */
};

/* Accepts exactly what ctl_encode() makes: what decodes encodes to the same bytes. Values are not
 * judged, nor whether the message travels in this direction. *out is untouched on error. */
enum ctl_err ctl_decode(struct ctl_frame *out, const uint8_t *data, size_t len);

/* Returns the length written to buf; 0 when it does not fit into cap, the code is unknown, or an
 * address has a family other than ADDR_NONE, ADDR_V4, ADDR_V6. */
size_t ctl_encode(const struct ctl_frame *f, uint8_t *buf, size_t cap);

/* The next of the addresses PERMIT's peers consist of; cur comes from ctl_cursor(). False at the
 * end, where no bytes are left, and at a malformed one, where *cur stays before it. */
bool ctl_next_addr(struct bytes *cur, struct addr *out);

/* Appends one as ctl_next_addr() reads it; overflow is set when it does not fit. */
void ctl_put_addr(struct wbytes *w, const struct addr *a);

static inline struct bytes ctl_cursor(struct ctl_bytes b)
{
    return bytes_of(b.data, b.len);
}

static inline struct ctl_bytes ctl_bytes_of(const void *data, size_t len)
{
    return (struct ctl_bytes){data, (uint32_t)len};
}

/* Names for logs, lower case; "unknown" for a value of no row. */
const char *ctl_code_name(uint8_t code);
const char *ctl_status_name(uint16_t status);
const char *ctl_err_name(enum ctl_err err);

enum ctl_way { CTL_NOWHERE = 0, CTL_E2R, CTL_R2E, CTL_R2R };

/* Which way a message travels: to the relay (E2R), to Erlang (R2E), from one relay to the next
 * (R2R); CTL_NOWHERE if unknown. */
enum ctl_way ctl_code_way(uint8_t code);

struct ctl_message_desc;
/* Its row; NULL if unknown. */
const struct ctl_message_desc *ctl_message_of(uint8_t code);

/* CTR_client_packets, ...: index of a counter in STATS_REPLY's counters. */
enum counter {
#define COUNTER(name, help) CTR_##name,
#define DROP(name, help)    CTR_##name,
#include "counters.def"
    COUNTER_COUNT
};

/* The tables as data. */
struct ctl_reason_desc {
    const char *text; /* as REPLY's detail has it */
    const char *hint; /* what would help */
};

struct counter_desc {
    const char *name;
    const char *help;
    bool is_drop;
};

struct ctl_field_desc {
    const char *type; /* "u8" ... "bytes" */
    const char *name;
};

struct ctl_message_desc {
    const char *name; /* lower case */
    uint8_t code;
    enum ctl_way way;
    const struct ctl_field_desc *fields; /* ends at a NULL name */
    const char *meaning;
};

struct ctl_status_desc {
    const char *name;
    uint16_t code;
    const char *meaning;
};

struct ctl_transport_desc {
    const char *name;
    uint8_t code;
    const char *meaning;
};

enum {
#define MSG(NAME, name, code, way, fields, meaning) CTL_INDEX_##NAME,
#include "ctl.def"
    CTL_MESSAGE_COUNT
};

enum {
#define STATUS(NAME, name, code, meaning) CTL_STATUS_INDEX_##NAME,
#include "ctl.def"
    CTL_STATUS_COUNT
};

enum {
#define TRANSPORT(NAME, name, code, meaning) CTL_TRANSPORT_INDEX_##NAME,
#include "ctl.def"
    CTL_TRANSPORT_COUNT
};

extern const struct ctl_message_desc ctl_messages[CTL_MESSAGE_COUNT];
extern const struct ctl_status_desc ctl_statuses[CTL_STATUS_COUNT];
extern const struct ctl_transport_desc ctl_transports[CTL_TRANSPORT_COUNT];
extern const struct counter_desc ctl_counters[COUNTER_COUNT];
extern const struct ctl_reason_desc ctl_reasons[CTL_REASON_COUNT];

/* FNV-1a over names, codes, ways, fields, statuses, transports, limits, reasons and counters in
 * order. Prose takes no part: it may be improved without two programs that agree ceasing to. */
uint64_t ctl_table_hash(void);

/* Prints version, hash and every row, one a line. */
void ctl_dump(FILE *out);

#endif
