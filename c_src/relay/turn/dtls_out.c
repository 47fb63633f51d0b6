#include "dtls_out.h"

#include "count.h"

void dtls_out(struct shard *sh, struct listener *l, const struct flow *f, const uint8_t *data,
              size_t len)
{
    count(sh, CTR_client_sent_packets);
    count_n(sh, CTR_client_sent_bytes, len);
    io_send(sh->io, &l->io, data, len, &f->client, &f->server, 0);
}

void dtls_out_all(struct shard *sh, struct listener *l, const struct flow *f, const uint8_t *data,
                  size_t len)
{
    struct bytes b = bytes_of(data, len);
    const uint8_t *datagram;
    size_t n;
    while (dtls_next(&b, &datagram, &n))
        dtls_out(sh, l, f, memcpy(io_scratch(sh->io, n), datagram, n), n);
}
