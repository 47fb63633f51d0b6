/*
 * The workers and the values they share. CONFIG starts them, TUNE, GRANTS, JOURNAL and STREAMS
 * change the values, BUCKET limits what all of them send together. They are stopped at the end.
 */
#ifndef MEERKAT_WORKERS_H
#define MEERKAT_WORKERS_H

#include "control_state.h"

void workers_config(struct control *c, const struct ctl_frame *f);
/* Every worker gets the frame as it came. */
void workers_tune(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len);
void workers_grants(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len);
void workers_journal(struct control *c, const struct ctl_frame *f, const uint8_t *frame,
                     size_t len);
void workers_streams(struct control *c, const struct ctl_frame *f);
void workers_bucket(struct control *c, const struct ctl_frame *f);
/* Sends IO to an Erlang that has just connected. */
void workers_report(struct control *c);
/* Every socket is closed, every thread ended. */
void workers_stop(struct control *c);

#endif
