#include "to_proxy.h"

#include "count.h"

_Static_assert((int)IO_HEAD_LEN == (int)CHANNEL_HEADER_LEN, "a head is ChannelData's");

void to_proxy(struct shard *sh, struct proxied *p, const uint8_t *head, const uint8_t *data,
              size_t len)
{
    struct io_socket *s = &p->end.listener->io;
    count(sh, CTR_client_sent_packets);
    count_n(sh, CTR_client_sent_bytes, len + (head ? CHANNEL_HEADER_LEN : 0));
    if (head)
        io_send_headed(sh->io, s, head, data, len, &p->via, &p->local);
    else
        io_send(sh->io, s, data, len, &p->via, &p->local, 0);
}
