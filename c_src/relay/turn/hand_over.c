#include "hand_over.h"

#include <string.h>

/* In each of those below, for a call more would cost every packet. */
static inline const uint8_t *wrap(struct shard *sh, const struct addr *from,
                                  const struct io_packet *p, size_t *len)
{
    uint8_t txid[STUN_TXID_LEN], *payload = p->data;
    shard_random(sh, txid, sizeof(txid));
    if (!p->roomy)
        payload = memcpy(io_scratch(sh->io, IO_HEADROOM + p->len + IO_TAILROOM) + IO_HEADROOM,
                         p->data, p->len);
    return stun_wrap_data(payload, p->len, from, txid, len);
}

const uint8_t *hand_over_wrap(struct shard *sh, const struct addr *from, const struct io_packet *p,
                              size_t *len)
{
    return wrap(sh, from, p, len);
}

void hand_over_data(struct shard *sh, const struct flow *f, const struct addr *from,
                    const struct io_packet *p)
{
    size_t len;
    const uint8_t *message = wrap(sh, from, p, &len);
    f->transport->send(sh, f, message, len);
}
