#include "ring.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

/* --------------------------------------------------------------------------------- submissions */

void ring_patience(unsigned *refusals, const char *what, int err)
{
    if (++*refusals > PATIENT_TRIES)
        log_fatal("%s: %s, and again %u times; the program ends, for the next to take over", what,
                  strerror(err), *refusals);
    if (*refusals > QUICK_TRIES)
        usleep(1000);
}

static bool may_pass(int err)
{
    return err == EINTR || err == EAGAIN || err == EBUSY || err == ENOMEM;
}

void ring_submit(struct uring *u)
{
    unsigned refusals = 0;
    do {
        int ret = io_uring_submit(&u->ring);
        if (LIKELY(ret > 0))
            refusals = 0;
        else if (ret < 0 && !may_pass(-ret))
            log_fatal("io_uring_submit: %s", strerror(-ret));
        else if (io_uring_sq_ready(&u->ring))
            ring_patience(&refusals, "io_uring_submit", ret ? -ret : EAGAIN);
    } while (io_uring_sq_ready(&u->ring));
}

struct io_uring_sqe *ring_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (UNLIKELY(!sqe)) {
        ring_submit(u); /* the ring is empty then */
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

/* ------------------------------------------------------------------------------------- buffers */

int ring_register_buffers(struct uring *u)
{
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)u->buf_ring, .ring_entries = BUFFERS, .bgid = BUFFER_GROUP};
    int ret = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (ret)
        return ret;
    io_uring_buf_ring_init(u->buf_ring);
    for (unsigned i = 0; i < BUFFERS; i++)
        io_uring_buf_ring_add(u->buf_ring, u->buffers + (size_t)i * STRIDE, BUFFER_LEN,
                              (unsigned short)i, BUFFERS - 1, (int)i);
    io_uring_buf_ring_advance(u->buf_ring, BUFFERS);
    return 0;
}

void ring_give_back(struct uring *u, uint32_t keep)
{
    uint32_t n = u->consumed_count - keep;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t bid = u->consumed[i];
        io_uring_buf_ring_add(u->buf_ring, u->buffers + (size_t)bid * STRIDE, BUFFER_LEN, bid,
                              BUFFERS - 1, (int)i);
    }
    if (n)
        io_uring_buf_ring_advance(u->buf_ring, (int)n);
    if (keep)
        u->consumed[0] = u->consumed[n];
    u->consumed_count = keep;
}
