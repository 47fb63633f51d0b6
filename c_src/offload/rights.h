/*
 * What it takes to load and attach a program is given back once that is done: using an entry takes
 * no right at all.
 */
#ifndef MEERKAT_RIGHTS_H
#define MEERKAT_RIGHTS_H

#include "base.h"

/* Of this thread, and those that it starts from here on: CAP_BPF and CAP_PERFMON are gone for good.
 * CAP_NET_ADMIN stays, which socket buffers are made larger by. Kernels before Linux 5.19 ask for
 * CAP_BPF whenever an entry is made: there, nothing is done. */
void rights_drop(void);

#endif
