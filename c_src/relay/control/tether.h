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

enum {
    TETHER_FDS = 3,     /* in from Erlang, out to it, its stderr */
    TETHER_PATH = 108,  /* of the socket, with the zero behind it */
    EXIT_GOVERNED = 75, /* there is a relay, and it has its Erlang */
};

/*
 * With Erlang's pipes at in_fd and out_fd. In the relay that it has forked this returns -1, and
 * *socket is what the next Erlang connects to; in the tether it returns the status to exit with
 * once the relay has ended.
 */
int tether_run(const char *path, int in_fd, int out_fd, int *socket);

/* For the relay. Is whoever has connected of our user, or root? */
bool tether_is_trusted(int fd);
/* What it brings: 0, -EAGAIN before it has, -EPROTONOSUPPORT when it is of another build, or what
 * else is wrong. */
int tether_take(int fd, int fds[TETHER_FDS]);
/* To who has connected: there is an Erlang; or it is welcome, and then: it is let in. */
enum tether_word { TETHER_GOVERNED = 'g', TETHER_WELCOME = 'w', TETHER_IN = 'i' };
void tether_answer(int fd, enum tether_word word);

#endif
