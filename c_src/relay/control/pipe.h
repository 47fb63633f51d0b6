/*
 * The two ends towards Erlang: frames of {packet,4} in on one descriptor, out on the other, each by
 * way of a buffer. Knows no frame's meaning.
 */
#ifndef MEERKAT_PIPE_H
#define MEERKAT_PIPE_H

#include "ctl.h"
#include "log.h"

enum { EXIT_PROTOCOL = 64 }; /* exit status when Erlang has sent a frame that is not in ctl.def */

struct pipe {
    int in_fd, out_fd;
    uint8_t *in;
    size_t in_len, in_taken; /* of those, taken by pipe_take */
    uint8_t *out;
    size_t out_len, out_sent;
    bool over;    /* the program ends: nothing more is read or carried out */
    bool lasting; /* the program goes on when Erlang is gone */
    bool deaf;    /* Erlang has closed its end: what is sent to it is dropped */
    bool ended;   /* end of file from Erlang, and all before it was read */
    int exit_status;
};

/* False when the descriptors are not there or memory is out: a line in the log says which. */
bool pipe_open(struct pipe *p, int in_fd, int out_fd);
void pipe_close(struct pipe *p);

/* Erlang is gone: closes both descriptors, and drops half a frame that was read and all that waits
 * to be written. */
void pipe_leave(struct pipe *p);
/* Takes the next Erlang's descriptors. False if they cannot be used: the caller still owns them. */
bool pipe_enter(struct pipe *p, int in_fd, int out_fd);

/* The program ends with this status. */
void pipe_end(struct pipe *p, int exit_status);

/* Reads what has come. At end of file the program ends, for nobody decides about allocations any
 * more; a pipe that is `lasting` sets `ended` instead. */
void pipe_read(struct pipe *p);
/* Is there room to read more? */
bool pipe_may_read(const struct pipe *p);
/* Is there a whole frame that pipe_take has not returned yet? */
bool pipe_has_frame(const struct pipe *p);
/* The next whole frame, good until pipe_read; NULL without. */
const uint8_t *pipe_take(struct pipe *p, size_t *len);

/* Is half of the outgoing buffer free? It is kept for replies: below that no command is taken. */
bool pipe_has_room(const struct pipe *p);
/* Queues a frame that is encoded, or one that is not. */
void pipe_put(struct pipe *p, const uint8_t *frame, size_t len);
void pipe_send(struct pipe *p, const struct ctl_frame *f);
/* A REPLY to that command. */
void pipe_reply(struct pipe *p, const struct ctl_frame *to, enum ctl_status status,
                const char *detail);
/* Bytes queued and not written. */
size_t pipe_waiting(const struct pipe *p);
/* Writes what the descriptor takes. 0 or -errno, which is not -EAGAIN: pipe_flush ends then. */
int pipe_write(struct pipe *p);
void pipe_flush(struct pipe *p);

#endif
