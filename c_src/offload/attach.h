/*
 * A program on an interface. By a link, which goes with the process, wherever the kernel has one:
 * XDP (Linux 5.9), tcx (6.6). Before that TC's is attached by clsact, which stays behind a process
 * that was killed; the next one that comes to the interface takes its place.
 */
#ifndef MEERKAT_ATTACH_H
#define MEERKAT_ATTACH_H

#include "base.h"

enum attached_by { BY_XDP, BY_XDP_GENERIC, BY_TCX, BY_CLSACT };

struct attached {
    enum attached_by by;
    unsigned interface;
    int fd;          /* the link's; of clsact, what says that its handle is taken */
    uint32_t handle; /* of clsact */
};

/* 0 or -errno. */
int attach(struct attached *a, int program, unsigned interface, bool xdp);
/* "XDP", "generic XDP", "tcx" or "clsact". */
const char *attached_how(const struct attached *a);
void detach(struct attached *a);

#endif
