/*
 * Records and messages of DTLS 1.2 (RFC 6347 4.1, 4.2.2):
 *
 *   record     type 1, version 2, epoch 2, number 6, length 2
 *   message    type 1, length 3, sequence 2, fragment's offset 3, its length 3
 *   ClientHello  version 2, random 32, session id 1+n, cookie 1+n, ...
 */
#include "dtls_hello.h"

enum {
    MESSAGE_HEAD = 12,
    HANDSHAKE = 22,
    CLIENT_HELLO = 1,
    HELLO_VERIFY_REQUEST = 3,
    VERSION_1_0 = 0xfeff,
    SESSION_MAX = 32,
};

static bool get24(struct bytes *b, uint32_t *v)
{
    const uint8_t *p;
    if (!bytes_take(b, 3, &p))
        return false;
    *v = (uint32_t)p[0] << 16 | load16(p + 1);
    return true;
}

/* Bytes behind their length in one byte. */
static bool take_short(struct bytes *b, const uint8_t **data, size_t *len)
{
    uint8_t n;
    if (!bytes_get8(b, &n) || !bytes_take(b, n, data))
        return false;
    *len = n;
    return true;
}

bool dtls_record_read(const uint8_t *data, size_t len, struct dtls_record *out)
{
    if (len < DTLS_RECORD_HEAD || data[1] != VERSION_1_0 >> 8)
        return false;
    *out = (struct dtls_record){
        .type = data[0],
        .epoch = load16(data + 3),
        .number = load64(data + 3) & 0xffffffffffffu,
        .size = DTLS_RECORD_HEAD + (size_t)load16(data + 11),
    };
    return out->size <= len;
}

static bool read_start(struct bytes b, struct dtls_hello *out)
{
    uint16_t version;
    return bytes_get16(&b, &version) && bytes_take(&b, DTLS_RANDOM_LEN, &out->random) &&
           take_short(&b, &out->session, &out->session_len) && out->session_len <= SESSION_MAX &&
           take_short(&b, &out->cookie, &out->cookie_len);
}

static enum dtls_hello_verdict read_message(struct bytes *b, struct dtls_hello *out)
{
    uint32_t len, at, fragment;
    if (!get24(b, &len) || !bytes_get16(b, &out->sequence) || !get24(b, &at) ||
        !get24(b, &fragment) || len > DTLS_HELLO_MAX || at > len || fragment > len - at ||
        bytes_left(b) < fragment)
        return DTLS_BAD_HELLO;
    if (at > 0)
        return DTLS_NO_HELLO; /* the rest of one */
    return read_start(bytes_of(b->p, fragment), out) ? DTLS_HELLO : DTLS_BAD_HELLO;
}

enum dtls_hello_verdict dtls_hello_read(const uint8_t *data, size_t len, struct dtls_hello *out)
{
    struct dtls_record r;
    uint8_t type;
    if (!dtls_record_read(data, len, &r) || r.type != HANDSHAKE || r.epoch != 0)
        return DTLS_NO_HELLO;
    struct bytes b = bytes_of(data + DTLS_RECORD_HEAD, r.size - DTLS_RECORD_HEAD);
    if (!bytes_get8(&b, &type) || type != CLIENT_HELLO)
        return DTLS_NO_HELLO;
    *out = (struct dtls_hello){.number = r.number, .size = r.size};
    return read_message(&b, out);
}

/* The version in it stands for nothing: 1.0, as RFC 6347 4.2.1 wants it. The message is one
 * fragment. */
void dtls_verify_build(const struct dtls_hello *h, const uint8_t cookie[DTLS_COOKIE_LEN],
                       uint8_t out[DTLS_VERIFY_LEN])
{
    enum { BODY = 3 + DTLS_COOKIE_LEN };
    uint8_t *message = out + DTLS_RECORD_HEAD, *body = message + MESSAGE_HEAD;
    memset(out, 0, DTLS_VERIFY_LEN);
    out[0] = HANDSHAKE;
    store16(out + 1, VERSION_1_0);
    store64(out + 5, h->number << 16 | (MESSAGE_HEAD + BODY));
    message[0] = HELLO_VERIFY_REQUEST;
    message[3] = message[11] = BODY;
    store16(message + 4, h->sequence);
    store16(body, VERSION_1_0);
    body[2] = DTLS_COOKIE_LEN;
    memcpy(body + 3, cookie, DTLS_COOKIE_LEN);
}
