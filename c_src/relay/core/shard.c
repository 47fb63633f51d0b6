#include "shard.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "crypto.h"
#include "hop.h"
#include "mail.h"
#include "tls.h"

/* Of a handshake that is over. */
static void wake(void *ctx)
{
    io_wake(((struct shard *)ctx)->io);
}

int shard_init(struct shard *sh, const struct shard_config *config, struct clock_time start)
{
    memset(sh, 0, sizeof(*sh));
    sh->config = *config;
    sh->time = start;
    sh->offloading.hops = -1;
    sh->policy = policy_make(NULL, 0, &(struct policy_facts){0});
    uint32_t streams = config->sessions_max + STREAMS_IDLE;
    uint32_t proxied = config->sessions_max + PROXIED_IDLE;
    if (!sh->policy ||
        !ways_init(&sh->ways, config->index, LISTENERS_MAX + 2 * streams + proxied) ||
        !proxieds_init(&sh->proxieds, &sh->ways, proxied) || !splices_init(&sh->splices) ||
        !streams_init(&sh->streams, streams) || !tcp_relays_init(&sh->tcp, config->sessions_max) ||
        !associations_init(&sh->associations, streams, config->nonce_key, STUN_NONCE_KEY_LEN) ||
        !sessions_init(&sh->sessions, &sh->ways, config->sessions_max, config->peers_max,
                       start.now) ||
        !offloads_init(&sh->sessions.offloads, config->offload, config->index, config->workers) ||
        !roamers_init(&sh->roamers, &sh->ways, config->sessions_max) ||
        !pendings_init(&sh->pending, &sh->ways, config->index, config->credits) ||
        !owed_init(&sh->owed, &sh->ways) || !mailbox_init(&sh->in, MAIL_SIZE) ||
        !mailbox_init(&sh->out, MAIL_SIZE) || !letters_init(&sh->letters)) {
        shard_destroy(sh);
        return -ENOMEM;
    }
    sh->offloading.hops = config->offload ? hop_open() : -1;
    sh->streams.home.wake = wake;
    sh->streams.home.ctx = sh;
    return 0;
}

void shard_listener_closed(struct listener *l)
{
    tls_store_release(l->certs);
    l->certs = NULL;
    l->in_use = false;
}

/* Those that are still open, or closing. */
static void drop_listeners(struct shard *sh)
{
    for (size_t i = 0; i < sh->listeners_used; i++)
        if (sh->listeners[i].in_use)
            shard_listener_closed(&sh->listeners[i]);
}

void shard_destroy(struct shard *sh)
{
    drop_listeners(sh);
    tcp_relays_destroy(&sh->tcp, &sh->streams.cells);
    streams_destroy(&sh->streams);
    splices_destroy(&sh->splices);
    proxieds_destroy(&sh->proxieds);
    associations_destroy(&sh->associations);
    sessions_destroy(&sh->sessions);
    roamers_destroy(&sh->roamers);
    pendings_destroy(&sh->pending);
    ways_destroy(&sh->ways);
    journal_close(&sh->journal);
    owed_destroy(&sh->owed);
    mailbox_destroy(&sh->in);
    mailbox_destroy(&sh->out);
    letters_destroy(&sh->letters);
    if (sh->offloading.hops >= 0)
        close(sh->offloading.hops);
    sh->offloading.hops = -1;
    policy_drop(sh->policy);
    sh->policy = NULL;
    front_drop(sh->front);
    sh->front = NULL;
    crypto_zero(&sh->config.nonce_key, sizeof(sh->config.nonce_key));
}

void shard_more_random(struct shard *sh)
{
    crypto_random(sh->random, sizeof(sh->random));
    sh->random_left = sizeof(sh->random);
}

struct listener *shard_listener(struct shard *sh, uint32_t id)
{
    for (size_t i = 0; i < sh->listeners_used; i++)
        if (sh->listeners[i].in_use && !sh->listeners[i].closing && sh->listeners[i].id == id)
            return &sh->listeners[i];
    return NULL;
}

bool shard_reach(struct shard *sh, uint32_t listener, uint8_t kind, const struct addr *client,
                 const struct addr *server, struct flow *out)
{
    struct listener *l = shard_listener(sh, listener);
    const struct transport *t = l ? l->transport : NULL;
    if (t && t->kind != kind && t->secure)
        t = t->secure;
    return t && t->reach(sh, l, client, server, out) && out->transport->kind == kind;
}
