#include "transports.h"

#include "tcp.h"
#include "udp.h"

static const struct transport *const transports[] = {&transport_udp, &transport_dtls,
                                                     &transport_tcp, &transport_tls};

const struct transport *transport_of(uint8_t kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
        if (transports[i]->kind == kind)
            return transports[i];
    return NULL;
}
