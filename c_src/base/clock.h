/*
 * Time as a value. A loop reads the clock once per turn and hands the result down; nobody below
 * asks again, which is what lets a test play hours in a moment.
 */
#ifndef MEERKAT_CLOCK_H
#define MEERKAT_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

struct clock_time {
    uint64_t now;    /* monotonic, in nanoseconds */
    uint32_t wall_s; /* seconds since 1970, for what outlives the process (nonces) */
};

static inline struct clock_time clock_read(void)
{
    struct timespec mono, wall;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    return (struct clock_time){
        .now = (uint64_t)mono.tv_sec * NS_PER_S + (uint64_t)mono.tv_nsec,
        .wall_s = (uint32_t)wall.tv_sec,
    };
}

#endif
