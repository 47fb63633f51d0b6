/*
 * What one program notes for another without waking it: rings of notes in memory that both have, so
 * what was noted outlives the program that noted it. Of each ring one thread writes; one program
 * reads them all, when it wants to know. That one believes nothing of what it finds: the other
 * parses what comes from the network. It knows nothing of what notes say.
 */
#ifndef MEERKAT_JOURNAL_H
#define MEERKAT_JOURNAL_H

#include "base.h"

enum {
    JOURNAL_RINGS_MAX = 256,
    JOURNAL_RING = 1 << 17, /* bytes of each; a power of two */
    JOURNAL_NOTE_MAX = 1024,
    JOURNAL_PATH_MAX = 64, /* by which the other program opens it, with the zero at its end */
};

struct journal_memory; /* the memory's format */
struct journal_ends;

/* ------------------------------------------------------------------------------------ who notes */

struct journal {
    struct journal_memory *memory; /* NULL: it is not open */
    size_t size;
    struct journal_ends *ends; /* of the ring */
    uint8_t *ring;
};

/* That ring of the journal at the path. 0 or -errno: -EPROTO where it is none. Any that was open is
 * closed. */
int journal_open(struct journal *j, const char *path, uint32_t ring);
void journal_close(struct journal *j);

static inline bool journal_is_open(const struct journal *j)
{
    return j->memory != NULL;
}

/* Is there room for a note of so many bytes? */
bool journal_has_room(const struct journal *j, uint32_t len);
/* Notes it, and when. There is room. */
void journal_note(struct journal *j, const uint8_t *note, uint32_t len);
/* Bytes that were noted and not taken. */
uint32_t journal_waiting(const struct journal *j);

/* ------------------------------------------------------------------------------------ who reads */

struct journal_book {
    struct journal_memory *memory;
    size_t size;
    int fd;
    uint32_t rings;
    uint32_t taken[JOURNAL_RINGS_MAX]; /* of each ring, as given back to who notes */
    uint32_t read[JOURNAL_RINGS_MAX];
};

/* A journal of so many rings, with nothing in it. 0 or -errno. */
int journal_make(struct journal_book *b, uint32_t rings);
void journal_end(struct journal_book *b);
/* How other programs of this user may open it, for as long as it is there. */
void journal_path(const struct journal_book *b, char path[JOURNAL_PATH_MAX]);

/* Hands over each note that was not read, those of one ring in their order, with its age in
 * milliseconds. False where what is there can be no note. A note is the callee's for the call. */
bool journal_read(struct journal_book *b,
                  void (*hear)(void *ctx, uint64_t age_ms, const uint8_t *note, uint32_t len),
                  void *ctx);
/* Whatever was read has been dealt with: its room is free. */
void journal_taken(struct journal_book *b);
/* Is there nothing that was not taken? For any thread. */
bool journal_is_taken(const struct journal_book *b);

#endif
