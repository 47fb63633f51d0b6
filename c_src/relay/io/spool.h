/*
 * Bytes on their way into a file that a thread of its own writes. Whoever adds them never waits for
 * a disk: they lie in a ring of a fixed size, and where that has no room nothing is added. The
 * thread looks every few milliseconds, so that adding makes no system call either.
 *
 * One thread adds, the spool's own writes. The file has to be there; what is in it stays.
 */
#ifndef MEERKAT_SPOOL_H
#define MEERKAT_SPOOL_H

#include "base.h"

enum { SPOOL_SIZE = 1 << 20 };

struct spool;

/* NULL when the system has no memory or no thread for it. */
struct spool *spool_start(const char *path);
/* Is there room for so many bytes more? */
bool spool_has_room(const struct spool *s, size_t len);
/* There is room for them. They are written after spool_commit, together with all before it. */
void spool_add(struct spool *s, const void *data, size_t len);
void spool_commit(struct spool *s);
/* What opening or writing the file has failed with, an errno; 0 while it works. Nothing is written
 * any more once it has failed. */
int spool_error(const struct spool *s);
/* No more is added, and it may not be used any more. What was committed is written yet; then the
 * file is closed. */
void spool_end(struct spool *s);

#endif
