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

/* Tests of what takes minutes are run against a relay built with another speed (VARIANT=fast): its
 * clock, deadlines and all, runs that much faster than the world's. Nothing sets it later. */
#ifndef CLOCK_SPEED
#define CLOCK_SPEED 1
#define CLOCK_NAME  ""
#else
#define CLOCK_NAME " with a fast clock"
#endif

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
        .now = ((uint64_t)mono.tv_sec * NS_PER_S + (uint64_t)mono.tv_nsec) * CLOCK_SPEED,
        .wall_s = (uint32_t)((uint64_t)wall.tv_sec * CLOCK_SPEED +
                             (uint64_t)wall.tv_nsec * CLOCK_SPEED / NS_PER_S),
    };
}

/* So long the kernel has to wait for ns of this clock to pass. */
static inline uint64_t clock_wait(uint64_t ns)
{
    return ns / CLOCK_SPEED;
}

#endif
