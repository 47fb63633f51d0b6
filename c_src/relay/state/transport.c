#include "transport.h"

#include <string.h>

#include "bytes.h"

struct tuple_key {
    uint8_t client[16], server[16];
    uint16_t client_port, server_port;
    uint8_t client_family, kind;
    uint8_t zero[2];
};

uint32_t tuple_hash(const struct table *t, const struct addr *client, const struct addr *server)
{
    uint8_t key[36];
    memcpy(key, client->ip, 16);
    memcpy(key + 16, server->ip, 16);
    store16(key + 32, client->port);
    store16(key + 34, server->port);
    return table_hash(t, key, sizeof(key));
}

uint32_t flow_hash(const struct table *t, const struct flow *f)
{
    struct tuple_key key = {.client_port = f->client.port,
                            .server_port = f->server.port,
                            .client_family = f->client.family,
                            .kind = f->transport->kind};
    memcpy(key.client, f->client.ip, 16);
    memcpy(key.server, f->server.ip, 16);
    return table_hash(t, &key, sizeof(key));
}
