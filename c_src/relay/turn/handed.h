/*
 * What another relay program is to get: messages, and the descriptors of those that are sockets.
 */
#ifndef MEERKAT_HANDED_H
#define MEERKAT_HANDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl.h"

/* Of one worker; whoever has it ends it. */
struct handed {
    uint8_t *bytes; /* messages as in numbered.h: a SOCKET for each descriptor, then sessions */
    size_t len, cap;
    int *fds;
    size_t fd_count, fd_cap;
    bool failed; /* memory was short */
};

void handed_free(struct handed *h);
/* Appends a message. */
void handed_put(struct handed *h, const struct ctl_frame *f);
/* A socket, whose descriptor stays the caller's. */
void handed_put_socket(struct handed *h, const struct ctl_socket *m, int fd);
/* Frames, each behind its length. */
void handed_put_frames(struct handed *h, const uint8_t *frames, size_t len);

#endif
