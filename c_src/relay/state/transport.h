/*
 * The seam between what a client says and how it travels. A transport takes bytes off its sockets,
 * finds the messages in them and hands each to input.c as a flow; send() goes the other way.
 * UDP and DTLS are in udp.c, TCP and TLS in tcp.c.
 */
#ifndef MEERKAT_TRANSPORT_H
#define MEERKAT_TRANSPORT_H

#include "io_dgram.h"
#include "io_stream.h"
#include "table.h"
#include "way.h"

struct shard;
struct listener;
struct flow;
struct tls_session;

struct transport {
    uint8_t kind;   /* enum ctl_transport */
    bool datagrams; /* its sockets are of UDP */
    /* Starts taking what comes in on the listener's descriptor, in l->io.fd. 0, or -errno: then
     * that is still the caller's. */
    int (*listen)(struct shard *sh, struct listener *l);
    /* Stops, and closes it. The listener is not in use any more once that is done. */
    void (*unlisten)(struct shard *sh, struct listener *l);
    /* One whole message to the client. data as for io_send. */
    void (*send)(struct shard *sh, const struct flow *f, const uint8_t *data, size_t len);
    /* A peer's datagram as ChannelData; into the room before it, where there is any. */
    void (*send_channel)(struct shard *sh, const struct flow *f, uint16_t number,
                         const struct io_packet *p);
    /* The flow of a client of this listener; false where he is not there (any more). */
    bool (*reach)(struct shard *sh, struct listener *l, const struct addr *client,
                  const struct addr *server, struct flow *out);
    /* For flow_kept; NULL where that is of no interest. */
    void (*kept)(struct shard *sh, const struct flow *f, bool kept);
    /* What a client says behind this message is not read until it is not held any more. NULL where
     * messages do not follow each other. */
    void (*hold)(struct shard *sh, const struct flow *f, bool hold);
    /* Its TLS session; NULL when it is gone. NULL where there is none. */
    const struct tls_session *(*session)(struct shard *sh, const struct flow *f);
    /* The same with TLS or DTLS around it, for those who begin with that; itself where nothing else
     * is taken. */
    const struct transport *secure;
};

/* Who is talking, and how to answer: the 5-tuple (RFC 8656 3.2) and its way back. */
struct flow {
    const struct transport *transport;
    struct way way;
    struct addr client;
    struct addr server; /* where the client sent to: replies leave from there */
};

/* A listener as one worker has it. */
enum { TRANSPORTS = 4, LISTENERS_MAX = TRANSPORTS * 32, REALM_MAX = 128 };

struct tls_store;

struct listener {
    struct io_socket io;     /* of datagrams */
    struct io_stream accept; /* of connections */
    struct tls_store *certs; /* held; NULL without TLS */
    bool secured;            /* it has certificates, or had them: there may be sessions yet */
    struct way_end end;
    uint32_t id;
    bool open;    /* takes new clients */
    bool idle;    /* does not, and has nobody left: the control thread knows */
    bool over;    /* so it is in every worker */
    bool closing; /* its socket is on its way out */
    bool in_use;
    const struct transport *transport;
    struct addr local; /* as bound, perhaps a wildcard */
    struct addr other; /* RFC 5780: the other IP and port; no address where that is off */
    size_t realm_len;
    char realm[REALM_MAX];
};

static inline bool flow_equal(const struct flow *a, const struct flow *b)
{
    return addr_equal(&a->client, &b->client) && addr_equal(&a->server, &b->server) &&
           a->transport == b->transport;
}

/* Erlang names clients without the interface that an IPv6 link-local address needs to be sent to:
 * it is learnt from what comes from there. The first packet of a session finds it by the table. */
static inline void flow_learn_link(struct flow *to, const struct flow *seen)
{
    if (UNLIKELY(seen->client.scope)) {
        to->client.scope = seen->client.scope;
        to->server.scope = seen->server.scope;
    }
}

/* Keeps a flow beyond the packet it came with: what it leads through stays, as far as it can, until
 * it is dropped. */
static inline void flow_keep(const struct ways *t, struct flow *to, const struct flow *from)
{
    *to = *from;
    way_hold(t, to->way);
}

static inline void flow_drop(const struct ways *t, const struct flow *f)
{
    way_release(t, f->way);
}

/* The same client has spoken, perhaps by another way: answers go by that from now on. */
static inline void flow_learn_way(const struct ways *t, struct flow *to, const struct flow *seen)
{
    if (to->way.number == seen->way.number)
        return;
    flow_drop(t, to);
    flow_keep(t, to, seen);
}

/* An allocation answers by it from now on, or does no longer. */
static inline void flow_kept(struct shard *sh, const struct flow *f, bool kept)
{
    if (f->transport->kept)
        f->transport->kept(sh, f, kept);
}

/* By the two addresses, for tables of what one transport has. */
uint32_t tuple_hash(const struct table *t, const struct addr *client, const struct addr *server);

/* By 5-tuple, for tables of flows. */
uint32_t flow_hash(const struct table *t, const struct flow *f);

#endif
