#include "http.h"

#include <string.h>

bool http_begins(const uint8_t *data, size_t len)
{
    static const char *const methods[] = {"GET ",   "HEAD ",    "POST ",  "PUT ",     "DELETE ",
                                          "TRACE ", "CONNECT ", "PATCH ", "OPTIONS ", "PRI * "};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        size_t method = strlen(methods[i]);
        if (len >= method && memcmp(data, methods[i], method) == 0)
            return true;
    }
    return false;
}

#define TEXT                                                                                       \
    "This port speaks STUN and TURN (RFC 8489, RFC 8656), over TCP and, where there is a "         \
    "certificate, TLS.\nIt serves no web pages. A web server can share it: see https_backend.\n"

/* Its length is a multiple of 4, as that of all that goes out on a stream. */
static const char answer[] = "HTTP/1.1 400 Bad Request\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "Connection: close\r\n"
                             "\r\n" TEXT;

_Static_assert((sizeof(answer) - 1) % 4 == 0, "what is queued is padded to 4");

const char *http_answer(void)
{
    return answer;
}
