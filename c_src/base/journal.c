/*
 * A note is { u64 when, by CLOCK_MONOTONIC in ns; u32 length; bytes } and may wrap. Both ends count
 * bytes for ever, modulo 2^32. Pages of the memory are there from when a ring is opened, so that
 * nobody dies writing to one that the system cannot give.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x4d4b4a31u

enum { NOTE_HEAD = 12 };

struct journal_ends {
    _Atomic uint32_t noted; /* written by who notes */
    uint8_t apart[60];
    _Atomic uint32_t taken; /* and by who reads */
    uint8_t apart_too[60];
};

struct journal_memory {
    uint32_t magic, rings, ring_bytes;
    _Atomic uint32_t used; /* rings from the first on that may have notes */
    uint8_t apart[48];
    struct journal_ends ends[JOURNAL_RINGS_MAX];
    uint8_t bytes[]; /* of ring after ring */
};

static size_t size_of(uint32_t rings)
{
    return sizeof(struct journal_memory) + (size_t)rings * JOURNAL_RING;
}

static uint8_t *ring_of(struct journal_memory *m, uint32_t ring)
{
    return m->bytes + (size_t)ring * JOURNAL_RING;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------------------------ who notes */

static void put(uint8_t *ring, uint32_t at, const void *from, uint32_t len)
{
    uint32_t offset = at & (JOURNAL_RING - 1), first = MIN(len, JOURNAL_RING - offset);
    memcpy(ring + offset, from, first);
    memcpy(ring, (const uint8_t *)from + first, len - first);
}

static int map(struct journal *j, int fd, uint32_t ring)
{
    struct stat st;
    const size_t head = sizeof(struct journal_memory);
    if (fstat(fd, &st) != 0)
        return -errno;
    if ((size_t)st.st_size < size_of(ring + 1))
        return -EPROTO;
    if (fallocate(fd, 0, 0, (off_t)head) != 0 ||
        fallocate(fd, 0, (off_t)(head + (size_t)ring * JOURNAL_RING), JOURNAL_RING) != 0)
        return -errno;
    void *memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *j = (struct journal){.memory = memory, .size = (size_t)st.st_size};
    return 0;
}

int journal_open(struct journal *j, const char *path, uint32_t ring)
{
    journal_close(j);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = map(j, fd, ring);
    close(fd);
    if (ret)
        return ret;
    struct journal_memory *m = j->memory;
    if (m->magic != MAGIC || ring >= m->rings || m->ring_bytes != JOURNAL_RING) {
        journal_close(j);
        return -EPROTO;
    }
    j->ends = &m->ends[ring];
    j->ring = ring_of(m, ring);
    uint32_t used = atomic_load(&m->used);
    while (used <= ring && !atomic_compare_exchange_weak(&m->used, &used, ring + 1))
        ;
    return 0;
}

void journal_close(struct journal *j)
{
    if (j->memory)
        munmap(j->memory, j->size);
    *j = (struct journal){0};
}

uint32_t journal_waiting(const struct journal *j)
{
    return atomic_load_explicit(&j->ends->noted, memory_order_relaxed) -
           atomic_load_explicit(&j->ends->taken, memory_order_acquire);
}

bool journal_has_room(const struct journal *j, uint32_t len)
{
    return JOURNAL_RING - journal_waiting(j) >= NOTE_HEAD + len;
}

void journal_note(struct journal *j, const uint8_t *note, uint32_t len)
{
    uint32_t at = atomic_load_explicit(&j->ends->noted, memory_order_relaxed);
    uint64_t when = now_ns();
    put(j->ring, at, &when, sizeof(when));
    put(j->ring, at + 8, &len, sizeof(len));
    put(j->ring, at + NOTE_HEAD, note, len);
    atomic_store_explicit(&j->ends->noted, at + NOTE_HEAD + len, memory_order_release);
}

/* ------------------------------------------------------------------------------------ who reads */

int journal_make(struct journal_book *b, uint32_t rings)
{
    *b = (struct journal_book){.fd = -1, .rings = rings};
    if (rings == 0 || rings > JOURNAL_RINGS_MAX)
        return -EINVAL;
    b->size = size_of(rings);
    b->fd = memfd_create("meerkat journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* Whoever could cut it off behind us would kill us. */
    if (b->fd < 0 || ftruncate(b->fd, (off_t)b->size) != 0 ||
        fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        goto failed;
    void *memory = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
    if (memory == MAP_FAILED)
        goto failed;
    b->memory = memory;
    b->memory->magic = MAGIC;
    b->memory->rings = rings;
    b->memory->ring_bytes = JOURNAL_RING;
    return 0;
failed:;
    int err = errno;
    journal_end(b);
    return -err;
}

void journal_end(struct journal_book *b)
{
    if (b->memory)
        munmap(b->memory, b->size);
    if (b->fd >= 0)
        close(b->fd);
    b->memory = NULL;
    b->fd = -1;
}

void journal_path(const struct journal_book *b, char path[JOURNAL_PATH_MAX])
{
    snprintf(path, JOURNAL_PATH_MAX, "/proc/%d/fd/%d", (int)getpid(), b->fd);
}

static void get(const uint8_t *ring, uint32_t at, void *to, uint32_t len)
{
    uint32_t offset = at & (JOURNAL_RING - 1), first = MIN(len, JOURNAL_RING - offset);
    memcpy(to, ring + offset, first);
    memcpy((uint8_t *)to + first, ring, len - first);
}

static bool read_ring(struct journal_book *b, uint32_t ring, uint64_t now,
                      void (*hear)(void *ctx, uint64_t age_ms, const uint8_t *note, uint32_t len),
                      void *ctx)
{
    uint8_t note[JOURNAL_NOTE_MAX];
    const uint8_t *bytes = ring_of(b->memory, ring);
    uint32_t noted = atomic_load_explicit(&b->memory->ends[ring].noted, memory_order_acquire);
    uint32_t left = noted - b->read[ring];
    if (left > JOURNAL_RING)
        return false;
    while (left) {
        uint64_t when;
        uint32_t len;
        if (left < NOTE_HEAD)
            return false;
        get(bytes, b->read[ring], &when, sizeof(when));
        get(bytes, b->read[ring] + 8, &len, sizeof(len));
        if (len > left - NOTE_HEAD || len > sizeof(note))
            return false;
        get(bytes, b->read[ring] + NOTE_HEAD, note, len);
        hear(ctx, when < now ? (now - when) / 1000000u : 0, note, len);
        b->read[ring] += NOTE_HEAD + len;
        left -= NOTE_HEAD + len;
    }
    return true;
}

static uint32_t rings_used(const struct journal_book *b)
{
    return MIN(atomic_load_explicit(&b->memory->used, memory_order_acquire), b->rings);
}

bool journal_read(struct journal_book *b,
                  void (*hear)(void *ctx, uint64_t age_ms, const uint8_t *note, uint32_t len),
                  void *ctx)
{
    uint64_t now = now_ns();
    for (uint32_t i = 0; i < rings_used(b); i++)
        if (!read_ring(b, i, now, hear, ctx))
            return false;
    return true;
}

void journal_taken(struct journal_book *b)
{
    for (uint32_t i = 0; i < rings_used(b); i++) {
        if (b->taken[i] == b->read[i])
            continue;
        b->taken[i] = b->read[i];
        atomic_store_explicit(&b->memory->ends[i].taken, b->taken[i], memory_order_release);
    }
}

bool journal_is_taken(const struct journal_book *b)
{
    for (uint32_t i = 0; i < rings_used(b); i++)
        if (atomic_load_explicit(&b->memory->ends[i].noted, memory_order_acquire) !=
            atomic_load_explicit(&b->memory->ends[i].taken, memory_order_acquire))
            return false;
    return true;
}
