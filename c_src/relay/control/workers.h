/*
 * The workers and what all of them go by: started by CONFIG, led to other values by TUNE, GRANTS
 * and STREAMS, limited together by BUCKET, stopped at the end.
 */
#ifndef MEERKAT_WORKERS_H
#define MEERKAT_WORKERS_H

#include "control_state.h"

void workers_config(struct control *c, const struct ctl_frame *f);
/* Every worker gets the frame as it came. */
void workers_tune(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len);
void workers_grants(struct control *c, const struct ctl_frame *f, const uint8_t *frame, size_t len);
void workers_streams(struct control *c, const struct ctl_frame *f);
void workers_bucket(struct control *c, const struct ctl_frame *f);
/* IO, for an Erlang that was not told yet. */
void workers_report(struct control *c);
/* Every socket is closed, every thread ended. */
void workers_stop(struct control *c);

#endif
