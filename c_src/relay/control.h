/*
 * The control thread: reads frames from Erlang on fd 3, writes to it on fd 4, owns what workers
 * share (ports, the host's addresses, the list of listeners) and mails each command to the worker
 * it concerns. It opens every socket, so that no worker waits for the kernel.
 *
 * control.c moves frames and mail; order.c carries the commands out.
 *
 * A worker that has something for Erlang writes it to fd 4 itself where it can (control_tell), so
 * that a request wakes no thread in between. The lock is for that: whoever holds it may empty ways
 * out, release ports and write. The control thread holds it but for where it sleeps; workers never
 * wait for it.
 */
#ifndef MEERKAT_CONTROL_H
#define MEERKAT_CONTROL_H

#include "worker.h"

enum {
    CONTROL_IN = 3,
    CONTROL_OUT = 4,
    EXIT_PROTOCOL = 64,
    EXIT_SYSTEM = 71,
    OWN_MAX = 256, /* addresses of the host that are known */
};

struct control {
    pthread_mutex_t lock;
    int in_fd, out_fd, doorbell;
    uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len, out_sent;
    struct worker *workers;
    unsigned worker_count;
    struct ports ports;
    struct limits limits;
    struct socket_buffers buffers;
    enum backend backend;
    struct clock_time time;
    uint64_t next_expiry; /* of a reservation */
    uint64_t next_scan;
    /* What the current policy is made of. */
    uint8_t *rules;
    size_t rules_len;
    bool has_rules;
    struct addr own[OWN_MAX];
    uint32_t own_count;
    struct addr broadcast[OWN_MAX];
    uint32_t broadcast_count;
    struct {
        uint32_t id;
        struct addr local;
        bool used;
        bool closing;  /* takes no more clients */
        unsigned idle; /* workers that have nobody left there */
    } listeners[LISTENERS_MAX];
    bool finished;
    int exit_status;
};

/* Says HELLO, then serves until Erlang is gone (end of file on in_fd). Returns the program's exit
 * status: 0 then, 64 after a frame that is not in ctl.def, 71 when the system failed. */
int control_run(int in_fd, int out_fd);

/* Queues a frame for Erlang. */
void control_send(struct control *c, const struct ctl_frame *f);
/* Mails a worker, which is woken at the end of this turn; waits until its box has room. */
void control_mail(struct control *c, unsigned worker, enum mail kind, const void *data, size_t len);

/* A worker's: ports in its way out are free at once, and frames are written, if it is to be now, or
 * with the next that are. False when it must ring the doorbell after all: another holds the pipe,
 * it is full, or some of the mail is for the control thread. */
bool control_tell(void *ctx, struct worker *w, bool now);

/* One frame from Erlang: done here, or mailed to the worker it is for. A frame that is not in
 * ctl.def ends the program. */
void order_frame(struct control *c, const uint8_t *frame, size_t len);
/* A worker has nobody left at a listener that closes. */
void order_listener_idle(struct control *c, uint32_t id);
/* Reads the host's addresses again; workers get a new policy if they changed. */
void order_scan_host(struct control *c);

#endif
