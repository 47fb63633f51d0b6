/*
 * What the relay and its program in the kernel both know (docs/design/offload.md): how a packet is
 * found, and the entry that says what becomes of it. An entry lies in memory that both have.
 *
 * Compiled for the kernel as well: nothing but numbers, in the order of bytes of this machine where
 * nothing else is said.
 */
#ifndef MEERKAT_ENTRY_H
#define MEERKAT_ENTRY_H

#include <linux/types.h>

/* One packet of each flow in so much time takes the sockets' way, so that what the kernel's stack
 * knows of the flow (neighbours, a firewall's connections) does not grow old. */
#define OFFLOAD_UP_NS 10000000000ull

enum {
    OFFLOAD_ENTRIES = 32768, /* one for each direction of a channel */
    OFFLOAD_WORKERS = 256,
};

/* Of a packet as it arrives. Addresses in 16 bytes, IPv4 as ::ffff:a.b.c.d, and ports as on the
 * wire. No byte is left over: it is compared whole. */
struct offload_key {
    __u8 source[16], target[16];
    __u16 source_port, target_port;
    __u16 channel; /* that it came on; 0: from a peer */
    __u16 family;  /* 4 or 6, as it arrived */
};

/* Where the key leads. */
struct offload_place {
    __u64 number; /* the entry's; another: it is somebody else's by now */
    __u32 index;
    __u32 zero;
};

struct offload_entry {
    __u64 number;    /* 0: says nothing */
    __u64 until;     /* CLOCK_MONOTONIC; over, whoever forgets it */
    __u64 epoch;     /* its worker's when it was made */
    __u64 packets;   /* that went by it; the program's to count up */
    __u64 bytes;     /* payload of these */
    __u64 up_next;   /* when one packet takes the way of sockets; the program's to set */
    __u8 source[16]; /* as it leaves, in the form of the key */
    __u8 target[16];
    __u16 source_port, target_port;
    __u16 channel; /* in front of the payload, as on the wire; 0: none */
    __u8 family;   /* as it leaves */
    __u8 hops;     /* TTL, hop limit */
    __u32 worker;
    __u32 interface;  /* by which it leaves */
    __u32 mtu;        /* of that */
    __u8 from_mac[6]; /* that interface's, and who is next; XDP goes by them */
    __u8 to_mac[6];
    __u32 unused[4]; /* two lines of the cache */
};

/* What a worker says of all of its entries. By itself on a line of the cache. */
struct offload_governor {
    __u64 until; /* the worker lived until then at least */
    __u64 epoch; /* entries of any other are void */
    __u64 unused[6];
};

#endif
