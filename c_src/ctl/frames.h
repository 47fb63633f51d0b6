/*
 * Frames in a row, each behind its length as u32, in memory that grows. Zero is empty.
 */
#ifndef MEERKAT_FRAMES_H
#define MEERKAT_FRAMES_H

#include "ctl.h"

struct frames {
    uint8_t *bytes;
    size_t len, cap;
};

/* False, and nothing was added, without memory. */
bool frames_add(struct frames *f, const uint8_t *frame, size_t len);

/* The frame at `at`, which is behind it then; false at the end. */
bool frames_next(const uint8_t *bytes, size_t len, size_t *at, struct ctl_bytes *frame);

void frames_drop(struct frames *f);

#endif
