/*
 * Certificates by the numbers that LISTEN names them with.
 */
#ifndef MEERKAT_CERTIFICATES_H
#define MEERKAT_CERTIFICATES_H

#include "control_state.h"

/* CERTIFICATES */
void certs_set(struct control *c, const struct ctl_frame *f);
/* Held for the caller. NULL for number 0, and where nobody has set it. */
struct tls_store *certs_hold(const struct control *c, uint32_t id);
void certs_destroy(struct control *c);

#endif
