/*
 * Which transports there are: the one place that names them.
 */
#ifndef MEERKAT_TRANSPORTS_H
#define MEERKAT_TRANSPORTS_H

#include "transport.h"

/* By the kind of LISTEN (ctl.def); NULL where there is none such. */
const struct transport *transport_of(uint8_t kind);

#endif
