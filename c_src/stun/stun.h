/*
 * The STUN codec: a datagram to a view of it, and a message into the caller's buffer; the keys
 * and digests that sign it; ChannelData. Data in, data out: no allocation, no I/O, no clock, no
 * BEAM. It does not know what a message means.
 *
 * RFC 8489 (STUN), RFC 8656 (TURN); attributes also of RFC 5780, 7982, 8016, 8445.
 */
#ifndef MEERKAT_STUN_H
#define MEERKAT_STUN_H

#include "addr.h"
#include "bytes.h"

enum {
    STUN_HEADER_LEN = 20,
    STUN_TXID_LEN = 12,
    STUN_ATTR_HEADER_LEN = 4,
    STUN_KEY_MD5_LEN = 16,
    STUN_KEY_SHA256_LEN = 32,
    STUN_NONCE_KEY_LEN = 32,
    STUN_NONCE_LEN = 37,   /* 13 of cookie and feature bits, 24 opaque */
    STUN_UNKNOWN_MAX = 16, /* unknown types a view remembers, and a 420 lists */
    STUN_LEN_MAX = 65532,  /* a whole message: offsets in a view have 16 bits */
    CHANNEL_HEADER_LEN = 4,
};

#define STUN_MAGIC_COOKIE 0x2112a442u

enum stun_class { STUN_REQUEST = 0, STUN_INDICATION = 1, STUN_SUCCESS = 2, STUN_ERROR = 3 };

enum stun_method {
    STUN_BINDING = 0x001,
    STUN_ALLOCATE = 0x003,
    STUN_REFRESH = 0x004,
    STUN_SEND = 0x006,
    STUN_DATA = 0x007,
    STUN_CREATE_PERMISSION = 0x008,
    STUN_CHANNEL_BIND = 0x009,
    STUN_CONNECT = 0x00a,
    STUN_CONNECTION_BIND = 0x00b,
    STUN_CONNECTION_ATTEMPT = 0x00c,
};

/* Attributes by their row in attrs.def: the index into view.at[]. */
enum stun_attr_id {
#define ATTR(name, code, kind, min, max, where) A_##name,
#include "attrs.def"
#undef ATTR
    STUN_ATTR_COUNT
};

/* Why something is not a message, or a value not what its attribute promises. The names are also
 * the atoms of the NIF and the names of the relay's drop counters. */
enum stun_err {
    STUN_OK = 0,
    STUN_ERR_TOO_SHORT,       /* fewer than 20 bytes */
    STUN_ERR_NOT_STUN,        /* top bits of the type not zero */
    STUN_ERR_BAD_COOKIE,      /* RFC 3489 or chance */
    STUN_ERR_BAD_LENGTH,      /* header length is not the datagram's, or no multiple of 4; or the
                                 whole passes STUN_LEN_MAX */
    STUN_ERR_BAD_ATTRIBUTE,   /* an attribute passes the end, or stray bytes follow the last */
    STUN_ERR_BAD_FINGERPRINT, /* wrong, malformed or not last */
    STUN_ERR_ABSENT,          /* getter: the message has no such attribute */
    STUN_ERR_MALFORMED,       /* getter: its value has the wrong size or shape */
    STUN_ERR_BAD_FAMILY,      /* getter: an address of a family that is neither 1 nor 2 */
};

/* "ok", "too_short", …: a stable lower-case name for any enum stun_err. */
const char *stun_err_name(enum stun_err err);

/* ------------------------------------------------------------------------------ attributes */

enum stun_kind {
    STUN_KIND_BYTES,
    STUN_KIND_FLAG,
    STUN_KIND_U8,
    STUN_KIND_U8RFFU3,
    STUN_KIND_U16,
    STUN_KIND_U16RFFU,
    STUN_KIND_U32,
    STUN_KIND_U64,
    STUN_KIND_EVEN,
    STUN_KIND_ADDR,
    STUN_KIND_XADDR,
    STUN_KIND_ERROR,
    STUN_KIND_ADDRERR,
    STUN_KIND_ICMP,
    STUN_KIND_TYPES,
    STUN_KIND_ALG,
    STUN_KIND_ALGS,
};

struct stun_attr_info {
    const char *name; /* "xor_peer_address" */
    uint16_t code;
    uint8_t kind;
    uint16_t min, max;
    const char *where;
};

extern const struct stun_attr_info stun_attr_table[STUN_ATTR_COUNT];

/* The row of a code, or -1. */
int stun_attr_find(uint16_t code);

static inline bool stun_is_comprehension_required(uint16_t code)
{
    return code < 0x8000;
}

/* ------------------------------------------------------------------------------------ view */

/*
 * A view is a parsed message that still lies in the caller's bytes: valid as long as they are.
 * at[id] is the offset of the first attribute of that row (its 4-byte header), 0 when absent.
 * Rules already applied: the first duplicate counts (RFC 8489 14); nothing after
 * MESSAGE-INTEGRITY counts but MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, nothing after
 * MESSAGE-INTEGRITY-SHA256 but FINGERPRINT (RFC 8489 9, threat X38); a FINGERPRINT present has
 * been checked. Sizes of values have not: the getters do that, for they know the error.
 */
struct stun_view {
    const uint8_t *data;
    size_t len;
    const uint8_t *txid;
    uint16_t method;
    uint8_t cls; /* enum stun_class */
    uint8_t unknown_count;
    bool has_fingerprint;
    uint16_t unknown[STUN_UNKNOWN_MAX]; /* comprehension-required types nobody here knows: each
                                           once, the first so many (X27) */
    uint16_t counted_end;               /* offset behind the last attribute that counts */
    uint16_t at[STUN_ATTR_COUNT];
};

/* STUN_OK, or why the bytes are not a message; *v is then undefined. Never reads past len.
 * Of several faults the first of enum stun_err is named. */
enum stun_err stun_parse(struct stun_view *v, const uint8_t *data, size_t len);

static inline bool stun_has(const struct stun_view *v, enum stun_attr_id id)
{
    return v->at[id] != 0;
}

/*
 * Typed getters of the first attribute of a row. STUN_OK, STUN_ERR_ABSENT, STUN_ERR_MALFORMED or
 * (addresses, ADDRERR) STUN_ERR_BAD_FAMILY; *out is untouched unless STUN_OK. Calling one on a
 * row of another kind is a bug (asserted).
 */
/* BYTES; also TYPES, ALG, ALGS and ICMP, undivided, once their shape is right. */
enum stun_err stun_get_bytes(const struct stun_view *v, enum stun_attr_id id, const uint8_t **value,
                             size_t *len);
/* FLAG, EVEN (1 when the R bit is set), U8, U8RFFU3, U16, U16RFFU, U32, U64. */
enum stun_err stun_get_uint(const struct stun_view *v, enum stun_attr_id id, uint64_t *out);
/* ADDR and XADDR. */
enum stun_err stun_get_addr(const struct stun_view *v, enum stun_attr_id id, struct addr *out);
/* ERROR and ADDRERR. Code is 300..699 (RFC 8489 14.8), anything else malformed; family is 1 or 2
 * for ADDRERR, 0 for ERROR. The reason is not NUL-terminated. */
enum stun_err stun_get_error(const struct stun_view *v, enum stun_attr_id id, uint16_t *code,
                             uint8_t *family, const uint8_t **reason, size_t *reason_len);

/* The same readers for a value wherever it lies; value_check does size and shape of any kind. */
enum stun_err stun_value_check(enum stun_attr_id id, const uint8_t *value, size_t len);
enum stun_err stun_value_uint(enum stun_attr_id id, const uint8_t *value, size_t len,
                              uint64_t *out);
enum stun_err stun_value_addr(enum stun_attr_id id, const uint8_t *value, size_t len,
                              const uint8_t txid[STUN_TXID_LEN], struct addr *out);
enum stun_err stun_value_error(enum stun_attr_id id, const uint8_t *value, size_t len,
                               uint16_t *code, uint8_t *family, const uint8_t **reason,
                               size_t *reason_len);

/* Takes one algorithm and its parameters off an ALG or ALGS value (RFC 8489 14.11): true, or
 * false at the end and at a cut entry or padding; the difference is bytes left in *list. */
bool stun_alg_next(struct bytes *list, uint16_t *algorithm, const uint8_t **params, size_t *len);

/* Walks every attribute that counts, in the order of the message, duplicates included. */
struct stun_iter {
    const struct stun_view *view;
    size_t offset; /* of what follows */
    uint16_t code;
    int id; /* row, or -1 */
    const uint8_t *value;
    size_t len;
};

void stun_iter_init(struct stun_iter *it, const struct stun_view *v);
bool stun_iter_next(struct stun_iter *it);

/* The value the iterator stands on, read as an address of its kind. */
enum stun_err stun_iter_addr(const struct stun_iter *it, struct addr *out);

/* --------------------------------------------------------------------------------- builder */

/*
 * Builds into the caller's buffer. Whatever does not fit it, or STUN_LEN_MAX, makes the builder
 * fail, and so does an address without family; only stun_build_end reports it (0 bytes), so calls
 * need no checks between. Padding is zero (X55).
 * Signatures go last, in this order: integrity, fingerprint.
 */
struct stun_builder {
    struct wbytes w;
    uint8_t txid[STUN_TXID_LEN];
};

void stun_build_start(struct stun_builder *b, void *buf, size_t cap, enum stun_class cls,
                      uint16_t method, const uint8_t txid[STUN_TXID_LEN]);
/* Starts the success or error response to the request in v. */
void stun_build_response(struct stun_builder *b, void *buf, size_t cap, enum stun_class cls,
                         const struct stun_view *v);
/* Reserves the value of an attribute for the caller to fill; NULL when it does not fit. */
uint8_t *stun_put_room(struct stun_builder *b, uint16_t code, size_t len);
void stun_put_raw(struct stun_builder *b, uint16_t code, const void *value, size_t len);
/* The value as it lies, whatever the row's kind. */
void stun_put_bytes(struct stun_builder *b, enum stun_attr_id id, const void *value, size_t len);
/* The kinds of stun_get_uint; a value too wide for its kind is a bug (asserted). */
void stun_put_uint(struct stun_builder *b, enum stun_attr_id id, uint64_t value);
/* ADDR and XADDR. */
void stun_put_addr(struct stun_builder *b, enum stun_attr_id id, const struct addr *a);
/* Code is 300..699; reason may be NULL: an empty phrase (X21). */
void stun_put_error(struct stun_builder *b, uint16_t code, const char *reason);
/* ADDRESS-ERROR-CODE (RFC 8656 18.12): family 1 or 2, and an empty phrase. */
void stun_put_address_error(struct stun_builder *b, uint8_t family, uint16_t code);
void stun_put_unknown(struct stun_builder *b, const uint16_t *codes, size_t n);
void stun_put_integrity(struct stun_builder *b, const void *key, size_t key_len);
void stun_put_integrity_sha256(struct stun_builder *b, const void *key, size_t key_len);
void stun_put_fingerprint(struct stun_builder *b);
/* Closes the message; its length, or 0 when something did not fit. */
size_t stun_build_end(struct stun_builder *b);

/*
 * A Data indication around a payload that already lies in memory (RFC 8656 11.3): writes header,
 * XOR-PEER-ADDRESS and the DATA header into the STUN_DATA_ROOM(family) bytes before the payload,
 * and up to 3 zero bytes behind it. Returns the start of the message and its length in *len, or
 * NULL when payload_len passes STUN_DATA_MAX.
 */
enum { STUN_DATA_ROOM_V4 = 36, STUN_DATA_ROOM_V6 = 48, STUN_DATA_TAIL = 3 };
enum { STUN_DATA_MAX = STUN_LEN_MAX - STUN_DATA_ROOM_V6 };
uint8_t *stun_wrap_data(uint8_t *payload, size_t payload_len, const struct addr *peer,
                        const uint8_t txid[STUN_TXID_LEN], size_t *len);

/* ----------------------------------------------------------------------------- credentials */

/* Long-term keys (RFC 8489 9.2.2): MD5 or SHA-256 of user ":" realm ":" password. The caller has
 * applied OpaqueString where it wants it. */
void stun_key_md5(const void *user, size_t user_len, const void *realm, size_t realm_len,
                  const void *password, size_t password_len, uint8_t out[STUN_KEY_MD5_LEN]);
void stun_key_sha256(const void *user, size_t user_len, const void *realm, size_t realm_len,
                     const void *password, size_t password_len, uint8_t out[STUN_KEY_SHA256_LEN]);
/* USERHASH (RFC 8489 14.4): SHA-256 of user ":" realm. */
void stun_userhash(const void *user, size_t user_len, const void *realm, size_t realm_len,
                   uint8_t out[32]);

/* Does the message's MESSAGE-INTEGRITY (RFC 8489 14.5), or -SHA256 (14.6), match the key?
 * STUN_ERR_ABSENT, STUN_ERR_MALFORMED (also a truncated SHA-256: TURN allows none), STUN_OK with
 * *match set. Constant time in the digest. */
enum stun_err stun_check_integrity(const struct stun_view *v, const void *key, size_t key_len,
                                   bool *match);
enum stun_err stun_check_integrity_sha256(const struct stun_view *v, const void *key,
                                          size_t key_len, bool *match);

/*
 * Stateless nonces (RFC 8489 9.2, 9.2.4; threats X30-X32): cookie "obMatJos2", the feature bits
 * in base64 (erratum 6290: bit 0 is the least significant), then base64 of a 32-bit second and
 * the first 14 bytes of HMAC-SHA256(key, second | features | client ip | client port).
 * Never stored, good for one client address, false after `lifetime_s`.
 */
enum stun_feature { STUN_FEATURE_PASSWORD_ALGORITHMS = 1, STUN_FEATURE_USERNAME_ANONYMITY = 2 };

void stun_nonce_make(char out[STUN_NONCE_LEN], const uint8_t key[STUN_NONCE_KEY_LEN],
                     uint32_t now_s, uint32_t features, const struct addr *client);
bool stun_nonce_check(const uint8_t *nonce, size_t len, const uint8_t key[STUN_NONCE_KEY_LEN],
                      uint32_t now_s, uint32_t lifetime_s, uint32_t features,
                      const struct addr *client);

/* ----------------------------------------------------------------------------- ChannelData */

enum {
    CHANNEL_MIN = 0x4000,
    CHANNEL_MAX = 0x4fff,      /* RFC 8656 12 */
    CHANNEL_MAX_WIDE = 0x7fff, /* RFC 5766 11 */
};

/* What the first byte says a datagram is (RFC 7983, RFC 8656 12). */
enum stun_demux { DEMUX_STUN, DEMUX_CHANNEL, DEMUX_DTLS, DEMUX_OTHER };

static inline enum stun_demux stun_demux(uint8_t first)
{
    if (first < 4)
        return DEMUX_STUN;
    if (first >= 0x40 && first < 0x80)
        return DEMUX_CHANNEL;
    if (first >= 20 && first < 64)
        return DEMUX_DTLS;
    return DEMUX_OTHER;
}

/* RFC 8656 12.6: false when shorter than it claims. Bytes behind the claimed length are padding
 * or noise and are left out (K18: incoming padding is tolerated on UDP). Zero length is fine.
 * Whether the number is in range is for the caller, who knows the configured range. */
static inline bool channel_parse(const uint8_t *data, size_t len, uint16_t *number,
                                 const uint8_t **payload, size_t *payload_len)
{
    if (len < CHANNEL_HEADER_LEN)
        return false;
    size_t claimed = load16(data + 2);
    if (claimed > len - CHANNEL_HEADER_LEN)
        return false;
    *number = load16(data);
    *payload = data + CHANNEL_HEADER_LEN;
    *payload_len = claimed;
    return true;
}

/* Writes the header into the 4 bytes before the payload. */
static inline void channel_put_header(uint8_t *payload, uint16_t number, size_t payload_len)
{
    store16(payload - 4, number);
    store16(payload - 2, (uint16_t)payload_len);
}

#endif
