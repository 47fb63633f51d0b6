/*
 * Connections of clients as a worker has them: by 5-tuple, with what is read and not whole, and
 * what waits to be sent. Belongs to one worker. Reads and sends nothing by itself.
 */
#ifndef MEERKAT_STREAM_H
#define MEERKAT_STREAM_H

#include "crowd.h"
#include "handshake.h"
#include "io_stream.h"
#include "queue.h"
#include "slab.h"
#include "timer.h"
#include "transport.h"

enum {
    STREAM_READ = 32 * 1024,      /* bytes of one read */
    STREAM_SEND = 32 * 1024,      /* of one send, before records are put around them */
    STREAM_NET = 64 * 1024,       /* holds a read behind part of a record, or a send in records */
    STREAM_READS = 1024 * 1024,   /* of all connections between two waits */
    STREAM_CELLS = 40 * 1024,     /* what waits for all connections of a worker: 64 MB */
    STREAM_QUEUE_MIN = 64 * 1024, /* bytes of media that may always wait for one */
    STREAM_QUEUE_MAX = 2 * 1024 * 1024, /* and at most, however fast it has been */
    STREAMS_IDLE = 16 * 1024,           /* without allocation, in all */
};

_Static_assert((int)STREAM_NET > STREAM_READ + TLS_RECORD_MAX, "part of a record and a read");

enum stream_state {
    STREAM_FRESH,   /* nothing has come yet */
    STREAM_SHAKING, /* with a handshake thread */
    STREAM_OPEN,
    STREAM_JOINED, /* raw bytes, to and from a peer (RFC 6062) */
    STREAM_ENDING, /* the client says no more, or we have said so: what waits is sent, then it goes
                    */
};

struct stream;
struct peer_stream;
struct shard;

/* Takes what a connection that is joined has read. False: the connection has to end. */
typedef bool stream_taker(struct shard *sh, struct stream *s, const uint8_t *data, size_t len);

struct stream {
    struct io_stream io;
    struct way_end end; /* it holds that of its listener */
    struct table_node by_tuple;
    struct flow flow; /* its own */
    struct timer timer;
    struct list dirty; /* has something to send at the end of the turn */
    struct tls_session *tls;
    struct chain raw; /* read: part of a record */
    struct chain in;  /* read: part of a frame */
    struct chain out; /* records, or the rest of a send, that the kernel did not take */
    struct queue queue;
    uint64_t heard;           /* when the last whole frame came, or the connection */
    uint64_t begun;           /* when the part that is in raw or in did; 0: nothing is there */
    uint64_t limit_at;        /* when `limit` was found */
    uint32_t limit;           /* bytes of media that may wait */
    struct peer_stream *peer; /* while it is joined */
    stream_taker *take;       /* likewise */
    uint8_t state;
    bool awaits_header; /* of a proxy: who the client is stands in it */
    bool held;          /* nothing is read: its answer or its peer is waited for */
    bool unframed;      /* `in` may have whole frames: it was held behind one of them */
    bool cut;           /* it must go at once */
    bool crowded;       /* counts among those without allocation */
    bool spoken;        /* a STUN message came: only then may there be ChannelData */
    bool answered;      /* a response went: only then may media follow */
    bool stuck;         /* does not read its answers, or there is no memory for them: it must go */
    bool heard_end, said_end; /* by the client, by us; while it is ending */
    bool blocked;   /* the kernel took less than it was given, and has not called for more yet */
    bool congested; /* so it was since the queue was empty */
};

/* What all workers go by; changed by STREAMS. */
struct stream_limits {
    _Atomic uint64_t queue_ns; /* media older than this is dropped */
    struct crowd crowd;
    struct crowd spliced; /* connections passed through to web servers */
    struct handshakes *handshakes;
};

struct streams {
    struct slab slab;
    uint8_t *net, *plain; /* for the length of a call: bytes of the network, and others */
    uint8_t *read;        /* what was read lies here until what was sent from there is over */
    size_t read_used;
    uint32_t read_settled; /* io.settled, when read_used was 0 */
    struct cells cells;
    struct table by_tuple;
    struct list dirty;
    struct handshake_home home;
    uint32_t live;
    _Atomic uint64_t age_max; /* of what was sent, since somebody asked */
    int spare; /* a descriptor to give up when there are no others, so that who comes is sent away
                */
};

/* False without address space. */
bool streams_init(struct streams *t, uint32_t max);
/* Closes all that are left: nobody uses their io any more, and no handshake is under way. */
void streams_destroy(struct streams *t);

/* With its 5-tuple, in no io yet; NULL when there are too many. */
struct stream *stream_create(struct streams *t, int fd, const struct flow *f);
struct stream *stream_find(const struct streams *t, const struct addr *client,
                           const struct addr *server);
/* Forgets it and gives back what it has, but for the descriptor. */
void stream_free(struct streams *t, struct stream *s);

#endif
