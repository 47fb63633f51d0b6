/*
 * Shortcuts at work (docs/design/shortcuts.md): packets take them, workers ask each other for them.
 * What lets a packet out, permission, channel and bandwidth of its own session, has been looked at
 * before, and it has been counted as sent to its peer.
 */
#ifndef MEERKAT_SHORTCUTS_H
#define MEERKAT_SHORTCUTS_H

#include "mail.h"
#include "shard.h"

/* A payload of this session's client, for the relayed address of another. Bytes for a header of
 * ChannelData before it may be written to. */
struct outbound {
    struct session *session;
    const struct relayed *relayed; /* where it would leave */
    const struct pool *pool;       /* where the other is relayed */
    struct channel *channel;       /* it came by; NULL: by a Send */
    const struct addr *peer;       /* as the client names it */
    const uint8_t *payload;
    size_t len;
};

/* Takes the shortcut, and asks for one where there is none. False where there is none that holds:
 * nothing has been done, and the packet has the long way to go. */
bool shortcut_take(struct shard *sh, const struct outbound *o);

/* MAIL_SEEK, MAIL_SHORTCUT. */
void shortcut_asked(struct shard *sh, const struct mail_seek *m);
void shortcut_told(struct shard *sh, const struct mail_shortcut *m);

/* How many peers of the session are reached by a shortcut now. */
unsigned shortcut_peers(const struct shard *sh, const struct session *s);

/* So many messages that took a shortcut to this client were not sent. False where there is none. */
bool shortcut_unsent(struct shard *sh, const struct flow *f, enum counter reason, uint64_t n,
                     uint64_t payload);

#endif
