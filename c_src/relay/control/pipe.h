/*
 * The two ends towards Erlang: frames of {packet,4} in on one descriptor, out on the other, each by
 * way of a buffer. Knows no frame's meaning.
 */
#ifndef MEERKAT_PIPE_H
#define MEERKAT_PIPE_H

#include "ctl.h"
#include "log.h"

enum { EXIT_PROTOCOL = 64 }; /* Erlang said what is not in ctl.def; or EXIT_SYSTEM (log.h) */

struct pipe {
    int in_fd, out_fd;
    uint8_t *in;
    size_t in_len, in_taken; /* of those, taken by pipe_take */
    uint8_t *out;
    size_t out_len, out_sent;
    bool over;    /* nothing more is read or carried out: the program ends */
    bool lasting; /* it does not end with Erlang */
    bool deaf;    /* Erlang reads no more: what is for it is dropped */
    bool ended;   /* all that it said was read, and it says no more */
    int exit_status;
};

/* False when the descriptors are not there or memory is out: a line in the log says which. */
bool pipe_open(struct pipe *p, int in_fd, int out_fd);
void pipe_close(struct pipe *p);

/* Erlang is gone, and so is what was read of a frame or waited for it. Closes both descriptors. */
void pipe_leave(struct pipe *p);
/* Another has come. False when the descriptors cannot be used: they stay the caller's. */
bool pipe_enter(struct pipe *p, int in_fd, int out_fd);

/* The program ends with this status. */
void pipe_end(struct pipe *p, int exit_status);

/* Reads what has come. When Erlang is gone the program ends: nothing is relayed that nobody decides
 * about. A pipe that is lasting says that it has ended. */
void pipe_read(struct pipe *p);
/* Is there room to read more? */
bool pipe_may_read(const struct pipe *p);
/* Has a whole frame come that was not taken? */
bool pipe_has_frame(const struct pipe *p);
/* The next whole frame, good until pipe_read; NULL without. */
const uint8_t *pipe_take(struct pipe *p, size_t *len);

/* Half the buffer out is kept for replies: nothing more is taken in below that. */
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
