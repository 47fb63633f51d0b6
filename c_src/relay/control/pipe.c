#include "pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

enum { FRAME_MAX = 256 * 1024, OUT_SIZE = 512 * 1024 };

bool pipe_open(struct pipe *p, int in_fd, int out_fd)
{
    *p = (struct pipe){
        .in_fd = in_fd, .out_fd = out_fd, .in = malloc(FRAME_MAX), .out = malloc(OUT_SIZE)};
    if (!p->in || !p->out) {
        log_error("cannot start: %s", strerror(ENOMEM));
        return false;
    }
    if (!pipe_enter(p, in_fd, out_fd)) {
        log_error("fd %d is not open: this program is started by Erlang", out_fd);
        return false;
    }
    return true;
}

bool pipe_enter(struct pipe *p, int in_fd, int out_fd)
{
    if (fcntl(out_fd, F_SETFL, fcntl(out_fd, F_GETFL) | O_NONBLOCK) != 0)
        return false;
    p->in_fd = in_fd;
    p->out_fd = out_fd;
    p->deaf = p->ended = false;
    return true;
}

void pipe_leave(struct pipe *p)
{
    close(p->in_fd);
    close(p->out_fd);
    p->in_fd = p->out_fd = -1;
    p->in_len = p->in_taken = p->out_len = p->out_sent = 0;
    p->deaf = true;
}

void pipe_close(struct pipe *p)
{
    free(p->in);
    free(p->out);
}

void pipe_end(struct pipe *p, int exit_status)
{
    p->over = true;
    p->exit_status = exit_status;
}

/* ----------------------------------------------------------------------------------------- in */

bool pipe_may_read(const struct pipe *p)
{
    return p->in_len < FRAME_MAX;
}

void pipe_read(struct pipe *p)
{
    ssize_t n = read(p->in_fd, p->in + p->in_len, FRAME_MAX - p->in_len);
    if (n > 0)
        p->in_len += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        *(p->lasting ? &p->ended : &p->over) = true;
}

bool pipe_has_frame(const struct pipe *p)
{
    size_t left = p->in_len - p->in_taken;
    return left >= 4 && left - 4 >= load32(p->in + p->in_taken);
}

/* What was taken makes room for what comes. */
static void close_up(struct pipe *p)
{
    memmove(p->in, p->in + p->in_taken, p->in_len - p->in_taken);
    p->in_len -= p->in_taken;
    p->in_taken = 0;
}

const uint8_t *pipe_take(struct pipe *p, size_t *len)
{
    size_t left = p->in_len - p->in_taken;
    if (left >= 4 && load32(p->in + p->in_taken) > FRAME_MAX - 4) {
        log_error("frame from Erlang of %u bytes", load32(p->in + p->in_taken));
        pipe_end(p, EXIT_PROTOCOL);
        return NULL;
    }
    if (!pipe_has_frame(p)) {
        close_up(p);
        return NULL;
    }
    const uint8_t *frame = p->in + p->in_taken + 4;
    *len = load32(p->in + p->in_taken);
    p->in_taken += 4 + *len;
    return frame;
}

/* ---------------------------------------------------------------------------------------- out */

bool pipe_has_room(const struct pipe *p)
{
    return OUT_SIZE - p->out_len > OUT_SIZE / 2;
}

void pipe_put(struct pipe *p, const uint8_t *frame, size_t len)
{
    if (p->deaf)
        return;
    if (OUT_SIZE - p->out_len < len + 4) {
        log_error("no room for a frame to Erlang");
        pipe_end(p, EXIT_SYSTEM);
        return;
    }
    store32(p->out + p->out_len, (uint32_t)len);
    memcpy(p->out + p->out_len + 4, frame, len);
    p->out_len += len + 4;
}

void pipe_send(struct pipe *p, const struct ctl_frame *f)
{
    static uint8_t buf[64 * 1024]; /* of the control thread alone */
    size_t len = ctl_encode(f, buf, sizeof(buf));
    pipe_put(p, buf, len);
}

void pipe_reply(struct pipe *p, const struct ctl_frame *to, enum ctl_status status,
                const char *detail)
{
    struct ctl_frame f = {.code = CTL_REPLY,
                          .ref = to->ref,
                          .u.reply = {.command = to->code,
                                      .status = status,
                                      .detail = ctl_bytes_of(detail, strlen(detail))}};
    pipe_send(p, &f);
}

size_t pipe_waiting(const struct pipe *p)
{
    return p->out_len - p->out_sent;
}

int pipe_write(struct pipe *p)
{
    while (p->out_sent < p->out_len) {
        ssize_t n = write(p->out_fd, p->out + p->out_sent, p->out_len - p->out_sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        p->out_sent += (size_t)n;
    }
    p->out_len = p->out_sent = 0;
    return 0;
}

/* Erlang reads no more. The commands that it has sent before may still be read. */
static void nobody_reads(struct pipe *p)
{
    if (!p->lasting) {
        p->over = true;
        return;
    }
    p->deaf = true;
    p->out_len = p->out_sent = 0;
}

void pipe_flush(struct pipe *p)
{
    if (pipe_write(p) != 0)
        nobody_reads(p);
}
