/*
 * The port program of an Erlang whose relay is to outlive it. It starts the relay, or finds the one
 * that is there and hands it its own pipes to Erlang; then it ends when, and as, the relay does.
 *
 * A lock file beside the socket decides who may start one, and who may bind and unlink the socket:
 * the relay has it for its life. Directory and socket are closed to other users, and both ends ask
 * the kernel who the other is.
 */
#ifndef MEERKAT_TETHER_H
#define MEERKAT_TETHER_H

#include <stdbool.h>
#include <stddef.h>

#include "parcel.h"

enum {
    TETHER_FDS = 3,     /* in from Erlang, out to it, its stderr */
    TETHER_PATH = 108,  /* of the socket, with the zero behind it */
    EXIT_GOVERNED = 75, /* there is a relay, and it has its Erlang */
};

/* What a relay begins with. */
struct tether_start {
    const char *path;     /* where the next Erlang finds it; NULL: it ends with Erlang */
    bool replaces;        /* the relay that is there is to make way, whatever program it is */
    int socket;           /* bound there; -1: another relay has it still, or there is none */
    int lock;             /* of the socket, when that is so; else -1 */
    int from;             /* that other relay, and */
    struct parcel parcel; /* what it has left */
};

/*
 * With Erlang's pipes at in_fd and out_fd. In the relay that it has forked this returns -1; in the
 * tether it returns the status to exit with once the relay has ended.
 */
int tether_run(struct tether_start *start, int in_fd, int out_fd);

/* The socket at the path, bound by who gets the lock now; -1 while another has it. */
int tether_claim(const char *path, int lock);

/* For the relay. Is whoever has connected of our user, or root? */
bool tether_is_trusted(int fd);
/* What it brings: 0, -EAGAIN before it has, -EPROTONOSUPPORT when it is of another build, or what
 * else is wrong. */
int tether_take(int fd, int fds[TETHER_FDS]);
/* To who has connected: there is an Erlang; or it is welcome, and then: it is let in, or may take
 * over. From who does: it reads now. */
enum tether_word {
    TETHER_GOVERNED = 'g',
    TETHER_WELCOME = 'w',
    TETHER_IN = 'i',
    TETHER_TAKE = 't',
    TETHER_READS = 'r'
};
void tether_answer(int fd, enum tether_word word);

#endif
