/*
 * Messages for a program of another build: each field comes with its number, which is its place in
 * the row of ctl.def from 1 on, and with its length. Who reads it skips what it does not know, be
 * it a field or a message, and takes 0, no address or no bytes for what is not there.
 *
 *   message  u32 length of what follows, u8 code, then the fields
 *   field    u8 number, u32 length, so many bytes: an integer big endian, an address as in a frame,
 *            bytes as they are
 */
#ifndef MEERKAT_NUMBERED_H
#define MEERKAT_NUMBERED_H

#include "ctl.h"

/* Appends the frame as such a message. What does not fit, or is no frame, is seen by `overflow`. */
void numbered_put(struct wbytes *w, const uint8_t *frame, size_t len);

enum numbered {
    NUMBERED_END,     /* no message is left */
    NUMBERED_FRAME,   /* the frame of one, with ref 0, was appended */
    NUMBERED_UNKNOWN, /* one that this build does not have was skipped */
    NUMBERED_BAD,     /* what comes is no message, or there was no room */
};

/* Takes the next message, and appends it as this build's frame. */
enum numbered numbered_get(struct bytes *b, struct wbytes *frame);

#endif
