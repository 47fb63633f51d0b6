#include "hand_over.h"

#include <string.h>

void hand_over_data(struct shard *sh, const struct flow *f, const struct addr *from,
                    const struct io_packet *p)
{
    uint8_t txid[STUN_TXID_LEN], *payload = p->data;
    size_t len;
    shard_random(sh, txid, sizeof(txid));
    if (!p->roomy)
        payload = memcpy(io_scratch(sh->io, IO_HEADROOM + p->len + IO_TAILROOM) + IO_HEADROOM,
                         p->data, p->len);
    const uint8_t *message = stun_wrap_data(payload, p->len, from, txid, &len);
    f->transport->send(sh, f, message, len);
}
