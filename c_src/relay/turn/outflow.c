#include "outflow.h"

#include <errno.h>
#include <sys/socket.h>

enum { PIECES = 64 };

/* How many bytes the kernel took; -1 when the connection is broken. */
static ssize_t give(int fd, struct iovec *pieces, unsigned n, size_t len, bool *blocked)
{
    struct msghdr msg = {.msg_iov = pieces, .msg_iovlen = n};
    ssize_t sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return -1;
    if (sent < (ssize_t)len)
        *blocked = true;
    return MAX(sent, 0);
}

bool outflow_rest(struct cells *cells, struct chain *rest, int fd, bool *blocked)
{
    while (rest->len && !*blocked) {
        struct iovec pieces[PIECES];
        unsigned n = chain_pieces(rest, pieces, PIECES);
        size_t len = 0;
        for (unsigned i = 0; i < n; i++)
            len += pieces[i].iov_len;
        ssize_t sent = give(fd, pieces, n, len, blocked);
        if (sent < 0)
            return false;
        chain_drop(cells, rest, (size_t)sent);
    }
    return true;
}

bool outflow(struct cells *cells, struct chain *rest, int fd, bool *blocked, const uint8_t *data,
             size_t len)
{
    struct iovec piece = {(void *)(uintptr_t)data, len};
    ssize_t sent = 0;
    if (!rest->len && !*blocked && len)
        sent = give(fd, &piece, 1, len, blocked);
    return sent >= 0 && chain_add(cells, rest, data + sent, len - (size_t)sent);
}

void outflow_break_off(int fd)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}
