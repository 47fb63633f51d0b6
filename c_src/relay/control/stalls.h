/*
 * Finds workers that hang. Each goes through its loop at least once a second, whatever happens. A
 * worker that does not serves none of its clients, and who waits for its mail waits for ever. So
 * the program ends, and Erlang starts another one and replays the allocations.
 */
#ifndef MEERKAT_STALLS_H
#define MEERKAT_STALLS_H

#include "control_state.h"

/* Looks at all workers, once a second however often it is called. Ends the program if one has not
 * turned during 20 looks in a row. Looks are counted and not time, because the whole program may
 * have been stopped (SIGSTOP) for longer. */
void stalls_look(struct control *c);

/* When the next look is due. */
uint64_t stalls_look_due(const struct control *c);

/* Milliseconds since the last turn of the worker whose last turn is longest ago. */
uint32_t stalls_age_ms(const struct control *c);

#endif
