/*
 * RFC 8446 4.1.2 and 5.1. The length of the handshake message comes first: until so many bytes are
 * there nothing else is judged, so that the verdict is the same however the bytes arrive. What is
 * not understood (GREASE, RFC 8701, and whatever comes) is stepped over.
 */
#include "hello.h"

#include "bytes.h"

enum {
    RECORD_HEAD = 5,
    RECORD_HANDSHAKE = 22,
    RECORD_PLAIN_MAX = 16384,
    MESSAGE_HEAD = 4,
    CLIENT_HELLO = 1,
    VERSION_LEN = 2,
    RANDOM_LEN = 32,
    SESSION_MAX = 32,
    EXTENSION_SNI = 0,
    EXTENSION_ALPN = 16,
    NAME_OF_HOST = 0,
};

/* A part that its length stands before, of two bytes or one. */
static bool take_part(struct bytes *b, unsigned length_bytes, struct bytes *out)
{
    uint8_t byte = 0;
    uint16_t len = 0;
    const uint8_t *p;
    if (length_bytes == 1 ? !bytes_get8(b, &byte) : !bytes_get16(b, &len))
        return false;
    len = length_bytes == 1 ? byte : len;
    if (!bytes_take(b, len, &p))
        return false;
    *out = bytes_of(p, len);
    return true;
}

/* ------------------------------------------------------------------------------------ extensions
 */

static bool is_of_name(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

/* A name of a host, as far as it is one: whoever goes by it need not look again. */
static void keep_name(struct bytes name, struct hello *out)
{
    size_t len = bytes_left(&name);
    if (len == 0 || len > HELLO_NAME_MAX)
        return;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = name.p[i];
        if (!is_of_name(c))
            return;
        out->name[i] = (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
    }
    if (out->name[len - 1] == '.') /* as in the DNS; the name is the same */
        len--;
    out->name[len] = '\0';
    out->name_len = len;
}

static bool read_names(struct bytes b, struct hello *out)
{
    struct bytes list, name;
    uint8_t type;
    if (!take_part(&b, 2, &list) || bytes_left(&b) > 0)
        return false;
    while (bytes_left(&list) > 0) {
        if (!bytes_get8(&list, &type) || !take_part(&list, 2, &name))
            return false;
        if (type == NAME_OF_HOST && !out->name_len)
            keep_name(name, out);
    }
    return true;
}

static bool is_text(struct bytes b, const char *text)
{
    return bytes_left(&b) == strlen(text) && memcmp(b.p, text, strlen(text)) == 0;
}

static bool read_protocols(struct bytes b, struct hello *out)
{
    struct bytes list, protocol;
    if (!take_part(&b, 2, &list) || bytes_left(&b) > 0)
        return false;
    out->offers = true;
    while (bytes_left(&list) > 0) {
        if (!take_part(&list, 1, &protocol))
            return false;
        if (is_text(protocol, "stun.turn") || is_text(protocol, "stun.nat-discovery"))
            out->offers_ours = true;
    }
    return true;
}

static bool read_extensions(struct bytes list, struct hello *out)
{
    while (bytes_left(&list) > 0) {
        uint16_t type;
        struct bytes b;
        if (!bytes_get16(&list, &type) || !take_part(&list, 2, &b))
            return false;
        if (type == EXTENSION_SNI && !read_names(b, out))
            return false;
        if (type == EXTENSION_ALPN && !read_protocols(b, out))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------- the message
 */

static bool read_message(struct bytes b, struct hello *out)
{
    const uint8_t *ignored;
    struct bytes session, ciphers, compressions, extensions;
    if (!bytes_take(&b, VERSION_LEN + RANDOM_LEN, &ignored) || !take_part(&b, 1, &session) ||
        bytes_left(&session) > SESSION_MAX || !take_part(&b, 2, &ciphers) ||
        !take_part(&b, 1, &compressions))
        return false;
    if (bytes_left(&b) == 0) /* TLS 1.2 may go without */
        return true;
    return take_part(&b, 2, &extensions) && bytes_left(&b) == 0 && read_extensions(extensions, out);
}

/* ----------------------------------------------------------------------------------- the records
 */

/* Bytes of the message, as its head says; without that, as many as there must be at least. */
static size_t whole_message(const uint8_t *message, size_t got)
{
    return MESSAGE_HEAD + (got < MESSAGE_HEAD ? 0 : load32(message) & 0xffffff);
}

/* The message that lies in whole records and in the one that is not, as far as it is there: *got
 * bytes. Nothing but records of a handshake may come before its end. */
static bool gather(struct bytes b, uint8_t message[HELLO_MAX], size_t *got)
{
    for (*got = 0; bytes_left(&b) > 0 && *got < whole_message(message, *got);) {
        uint8_t type, major, minor;
        uint16_t size;
        const uint8_t *p;
        if (bytes_get8(&b, &type) && type != RECORD_HANDSHAKE)
            return false;
        if (!bytes_get8(&b, &major))
            return true;
        if (major != 3)
            return false;
        if (!bytes_get8(&b, &minor) || !bytes_get16(&b, &size))
            return true;
        if (size == 0 || size > RECORD_PLAIN_MAX)
            return false;
        size_t there = MIN((size_t)size, bytes_left(&b));
        bytes_take(&b, there, &p);
        memcpy(message + *got, p, there); /* records have no more in them than they are long */
        *got += there;
    }
    return true;
}

enum hello_result hello_read(const uint8_t *data, size_t len, uint8_t message[HELLO_MAX],
                             struct hello *out)
{
    size_t got, all = MIN(len, (size_t)HELLO_MAX);
    *out = (struct hello){0};
    if (!gather(bytes_of(data, all), message, &got) || (got > 0 && message[0] != CLIENT_HELLO))
        return HELLO_BAD;
    size_t whole = whole_message(message, got);
    if (got < whole)
        return all == HELLO_MAX || (got >= MESSAGE_HEAD && whole > HELLO_MAX) ? HELLO_BAD
                                                                              : HELLO_MORE;
    struct bytes b = bytes_of(message + MESSAGE_HEAD, whole - MESSAGE_HEAD);
    return read_message(b, out) ? HELLO_WHOLE : HELLO_BAD;
}
