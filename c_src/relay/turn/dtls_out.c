#include "dtls_out.h"

#include "count.h"
#include "to_proxy.h"

void dtls_out(struct shard *sh, struct way below, const struct flow *f, const uint8_t *data,
              size_t len)
{
    struct way_end *e = way_resolve(&sh->ways, below);
    struct proxied *p = e ? proxied_of(e) : NULL;
    if (UNLIKELY(!e)) {
        count(sh, CTR_send_failed);
    } else if (p) {
        to_proxy(sh, p, NULL, data, len);
    } else {
        count(sh, CTR_client_sent_packets);
        count_n(sh, CTR_client_sent_bytes, len);
        io_send(sh->io, &e->listener->io, data, len, &f->client, &f->server, 0);
    }
}

void dtls_out_all(struct shard *sh, struct way below, const struct flow *f, const uint8_t *data,
                  size_t len)
{
    struct bytes b = bytes_of(data, len);
    const uint8_t *datagram;
    size_t n;
    while (dtls_next(&b, &datagram, &n))
        dtls_out(sh, below, f, memcpy(io_scratch(sh->io, n), datagram, n), n);
}
