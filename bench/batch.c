/*
 * Gathers and sends.
 */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>

enum { RUN_MAX = 64, RUN_BYTES = 65000 };

int batch_open(struct batch *b, unsigned stride, unsigned slots)
{
    *b = (struct batch){.fd = -1, .stride = stride, .slots = MIN(slots, (unsigned)BATCH_SLOTS)};
    b->data = calloc(b->slots, stride);
    return b->data ? 0 : -ENOMEM;
}

void batch_close(struct batch *b)
{
    free(b->data);
    b->data = NULL;
}

unsigned batch_run_max(const struct batch *b)
{
    return MIN((unsigned)RUN_MAX, MAX(1u, RUN_BYTES / b->stride));
}

uint8_t *batch_add(struct batch *b, int fd, unsigned count, const struct addr *source,
                   const struct addr *to)
{
    if (b->messages && (b->fd != fd || b->used + count > b->slots))
        batch_flush(b);
    b->fd = fd;
    unsigned i = b->messages++;
    uint8_t *data = b->data + (size_t)b->used * b->stride;
    struct msghdr *m = &b->message[i].msg_hdr;
    b->used += count;
    b->part[i] = (struct iovec){data, (size_t)count * b->stride};
    *m = (struct msghdr){.msg_iov = &b->part[i], .msg_iovlen = 1};
    if (to) {
        m->msg_name = &b->to[i];
        m->msg_namelen = addr_to_sockaddr(to, &b->to[i]);
    }
    socket_control(m, b->control[i], source, count > 1 ? b->stride : 0);
    return data;
}

void batch_flush(struct batch *b)
{
    unsigned refused = 0;
    for (unsigned done = 0; done < b->messages;) {
        int n = sendmmsg(b->fd, b->message + done, b->messages - done, 0);
        if (n > 0) {
            done += (unsigned)n;
        } else if (errno == ECONNREFUSED && refused++ < 1) {
            continue; /* of an earlier one, told now */
        } else if (n <= 0) {
            b->unsent += b->part[done++].iov_len / b->stride;
        }
    }
    b->messages = b->used = 0;
}
