/*
 * A peer's datagram, to be sent to a client: the last step, when all has been looked at.
 */
#ifndef MEERKAT_HAND_OVER_H
#define MEERKAT_HAND_OVER_H

#include "shard.h"

/* A Data indication around the payload where it lies, or around a copy where it has no room. */
const uint8_t *hand_over_wrap(struct shard *sh, const struct addr *from, const struct io_packet *p,
                              size_t *len);
/* The same, sent. */
void hand_over_data(struct shard *sh, const struct flow *f, const struct addr *from,
                    const struct io_packet *p);

/* By the channel, or without one (0) in a Data indication from that peer. */
static inline void hand_over(struct shard *sh, const struct flow *f, uint16_t channel,
                             const struct addr *from, const struct io_packet *p)
{
    if (channel)
        f->transport->send_channel(sh, f, channel, p);
    else
        hand_over_data(sh, f, from, p);
}

#endif
