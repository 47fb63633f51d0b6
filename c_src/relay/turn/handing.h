/*
 * What a worker has, for another relay program that takes its place: its sockets of datagrams, the
 * listeners of connections, and its sessions as the commands that would make them. They stay the
 * worker's own as well, until this program ends.
 */
#ifndef MEERKAT_HANDING_H
#define MEERKAT_HANDING_H

#include "shard.h"

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

/* MAIL_HOLD and MAIL_GO_ON: datagrams wait in their sockets, or are received again. */
void handing_hold(struct shard *sh);
void handing_go_on(struct shard *sh);
/* Each turn: says so once nothing is received any more. */
void handing_look(struct shard *sh);

/* MAIL_HAND. False when it must wait for room to say so. */
bool handing_hand(struct shard *sh);

#endif
