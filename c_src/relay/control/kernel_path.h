/*
 * The kernel's own path (offload.h), opened before the first worker starts, as CONFIG says. What it
 * came to is told in one line, whatever that is: sockets serve in any case.
 */
#ifndef MEERKAT_KERNEL_PATH_H
#define MEERKAT_KERNEL_PATH_H

#include "control_state.h"

void kernel_path_open(struct control *c, const struct ctl_config *m);
/* Tells it, where it was asked for. */
void kernel_path_tell(struct control *c);
/* Workers have ended. */
void kernel_path_close(struct control *c);

/* What --offload prints: a line of JSON for each interface that has an address,
 *   {"interface":"eth0","offload":"tcx"}  or  {"interface":"eth0","offload":null,"reason":"..."} */
void kernel_path_print(FILE *out);

#endif
