/*
 * Workers that stand still: each turns at least once a second, whatever happens. One that does not
 * answers nobody, and whoever waits for it waits for ever; so the program ends, and Erlang starts
 * another and replays.
 */
#ifndef MEERKAT_STALLS_H
#define MEERKAT_STALLS_H

#include "control_state.h"

/* Looks at all of them, once a second however often it is called. Ends the program where one has
 * not turned between many looks in a row: looks and not time, for the program itself may have been
 * stopped. */
void stalls_look(struct control *c);

/* When the next look is due. */
uint64_t stalls_look_due(const struct control *c);

/* Milliseconds since the last turn of the worker whose last turn is longest ago. */
uint32_t stalls_age_ms(const struct control *c);

#endif
