/*
 * The port program that Erlang starts where the relay is to outlive it. It forks the relay; or, if
 * one is there, connects to it and hands it its own pipes to Erlang. Then it waits until the relay
 * ends, and ends with the same status.
 *
 * Whoever has the lock of the file beside the socket may start a relay, and bind and unlink the
 * socket. A relay holds it until it ends. Other users can enter neither directory nor socket, and
 * both ends ask the kernel for the other's user.
 */
#ifndef MEERKAT_TETHER_H
#define MEERKAT_TETHER_H

#include <stdbool.h>
#include <stddef.h>

#include "parcel.h"

enum {
    TETHER_FDS = 3,     /* descriptors: the pipe from Erlang, the pipe to it, its stderr */
    TETHER_PATH = 108,  /* bytes of the socket's path with the zero, as in sockaddr_un */
    EXIT_GOVERNED = 75, /* exit status: there is a relay, and another Erlang governs it */
};

/* What a relay begins with. */
struct tether_start {
    const char *path;     /* of the socket; NULL: the relay ends with Erlang */
    bool replaces;        /* a relay that is there makes way, also if it is the same program */
    int socket;           /* bound at path; -1: there is none, or another relay has it still */
    int lock;             /* the lock file, to be claimed when that other relay ends; else -1 */
    int from;             /* connection to the relay that this one takes over from; else -1 */
    struct parcel parcel; /* the state and sockets that it has handed over */
};

/*
 * With Erlang's pipes at in_fd and out_fd. In the relay that it has forked this returns -1; in the
 * tether it returns the status to exit with once the relay has ended.
 */
int tether_run(struct tether_start *start, int in_fd, int out_fd);

/* Tries to get the lock, and binds the socket. -1 while another relay has the lock. */
int tether_claim(const char *path, int lock);

/* In the relay. Is the other end a process of our user, or of root? */
bool tether_is_trusted(int fd);
/* Receives Erlang's pipes from the tether: 0; -EAGAIN if they have not come yet; -EPROTONOSUPPORT
 * if the tether is of another build; or another -errno. */
int tether_take(int fd, int fds[TETHER_FDS]);
/* What the relay answers a tether: GOVERNED, another Erlang is connected; WELCOME, it may send the
 * pipes; then IN, they are in use, or TAKE, its own relay takes over. READS is what that new relay
 * says when it begins to read datagrams. */
enum tether_word {
    TETHER_GOVERNED = 'g',
    TETHER_WELCOME = 'w',
    TETHER_IN = 'i',
    TETHER_TAKE = 't',
    TETHER_READS = 'r'
};
void tether_answer(int fd, enum tether_word word);

#endif
