/*
 * The control thread: reads frames from Erlang on fd 3, writes to it on fd 4, owns what workers
 * share (ports, the host's addresses, the list of listeners) and mails each command to the worker
 * it concerns. It opens every socket, so that no worker waits for the kernel.
 */
#ifndef MEERKAT_CONTROL_H
#define MEERKAT_CONTROL_H

enum { CONTROL_IN = 3, CONTROL_OUT = 4 };

struct tether_start;

/* Sends HELLO, then serves until Erlang is gone (end of file on in_fd), or longer if there is a
 * socket for the next Erlang. Returns the program's exit status: 0 then, 64 after a frame that is
 * not in ctl.def, 71 when the system failed. */
int control_run(int in_fd, int out_fd, struct tether_start *start);

#endif
