/*
 * What one program notes and another reads: nothing lost, nothing out of order, and no note that
 * the reader would have to believe.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

enum { NOTES = 200000, RING = 1 };

static struct journal_book book;
static struct journal pen;

static void start(void)
{
    char path[JOURNAL_PATH_MAX];
    CHECK_EQ(journal_make(&book, 3), 0);
    journal_path(&book, path);
    CHECK_EQ(journal_open(&pen, path, RING), 0);
}

static void finish(void)
{
    journal_close(&pen);
    journal_end(&book);
}

/* Note i has a length and bytes that follow from i. */
static uint32_t length_of(uint32_t i)
{
    return 4 + (i * 2654435761u >> 20) % 700;
}

static void *note_all(void *arg)
{
    uint8_t note[JOURNAL_NOTE_MAX];
    (void)arg;
    for (uint32_t i = 0; i < NOTES; i++) {
        uint32_t len = length_of(i);
        memset(note, (int)(i & 0xff), len);
        memcpy(note, &i, sizeof(i));
        while (!journal_has_room(&pen, len))
            sched_yield();
        journal_note(&pen, note, len);
    }
    return NULL;
}

struct heard {
    uint32_t count, wrong;
    uint64_t age_ms;
};

static void hear(void *ctx, uint64_t age_ms, const uint8_t *note, uint32_t len)
{
    struct heard *h = ctx;
    uint32_t number = 0;
    if (len >= sizeof(number))
        memcpy(&number, note, sizeof(number));
    h->wrong += number != h->count || len != length_of(h->count);
    for (uint32_t b = 4; b < len; b++)
        h->wrong += note[b] != (uint8_t)number;
    h->age_ms = age_ms;
    h->count++;
}

static void two_threads(void)
{
    struct heard h = {0};
    pthread_t writer;
    start();
    CHECK_EQ(pthread_create(&writer, NULL, note_all, NULL), 0);
    while (h.count < NOTES && !h.wrong) {
        CHECK(journal_read(&book, hear, &h));
        journal_taken(&book);
        sched_yield();
    }
    pthread_join(writer, NULL);
    CHECK_EQ(h.wrong, 0);
    CHECK_EQ(h.count, NOTES);
    CHECK(journal_is_taken(&book));
    finish();
}

/* Read is not taken: who asks whether all has been dealt with hears no until it has, and nothing is
 * read twice. */
static void taken_when_said_so(void)
{
    struct heard h = {0};
    uint8_t note[1024] = {0};
    start();
    CHECK(journal_is_taken(&book));
    journal_note(&pen, note, length_of(0));
    CHECK(!journal_is_taken(&book));
    CHECK(journal_read(&book, hear, &h));
    CHECK(!journal_is_taken(&book));
    CHECK(journal_waiting(&pen) > 0);
    journal_taken(&book);
    CHECK(journal_is_taken(&book));
    CHECK_EQ(journal_waiting(&pen), 0);
    CHECK(journal_read(&book, hear, &h));
    CHECK_EQ(h.count, 1);
    finish();
}

static void full_means_no(void)
{
    const uint8_t note[100] = {0};
    unsigned n = 0;
    start();
    while (journal_has_room(&pen, sizeof(note))) {
        journal_note(&pen, note, sizeof(note));
        n++;
    }
    CHECK_EQ(n, JOURNAL_RING / (sizeof(note) + 12));
    struct heard h = {0};
    CHECK(journal_read(&book, hear, &h));
    CHECK_EQ(h.count, n);
    CHECK(!journal_has_room(&pen, sizeof(note)));
    journal_taken(&book);
    CHECK(journal_has_room(&pen, JOURNAL_NOTE_MAX));
    finish();
}

/* What was noted is there when the one who noted it is not. */
static void outlives_who_noted(void)
{
    struct heard h = {0};
    const uint8_t note[1024] = {0};
    start();
    journal_note(&pen, note, length_of(0));
    journal_close(&pen);
    CHECK(!journal_is_open(&pen));
    CHECK(journal_read(&book, hear, &h));
    CHECK_EQ(h.count, 1);
    CHECK_EQ(h.wrong, 0);
    finish();
}

static uint8_t *all_of(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_EQ(fstat(fd, &st), 0);
    *size = (size_t)st.st_size;
    void *p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    close(fd);
    return p;
}

/* Whatever another program writes there: the reader stays within its memory, and says so. */
static void nothing_is_believed(void)
{
    unsigned refused = 0;
    for (uint32_t seed = 1; seed < 300; seed++) {
        char path[JOURNAL_PATH_MAX];
        size_t size;
        struct heard h = {0};
        const uint8_t note[200] = {0};
        start();
        journal_path(&book, path);
        for (int i = 0; i < 20; i++)
            journal_note(&pen, note, sizeof(note));
        uint8_t *p = all_of(path, &size);
        uint32_t x = seed;
        for (size_t i = 0; i < size; i += 1 + (x >> 28)) {
            x = x * 1664525u + 1013904223u;
            p[i] = (uint8_t)(x >> 24);
        }
        refused += !journal_read(&book, hear, &h);
        munmap(p, size);
        finish();
    }
    CHECK(refused > 250);
}

static void cannot_be_cut_off(void)
{
    char path[JOURNAL_PATH_MAX];
    start();
    journal_path(&book, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_EQ(ftruncate(fd, 0), -1);
    CHECK_EQ(errno, EPERM);
    close(fd);
    finish();
}

static void what_is_no_journal(void)
{
    char path[JOURNAL_PATH_MAX];
    struct journal none = {0};
    CHECK_EQ(journal_open(&none, "/proc/self/fd/none", 0), -ENOENT);
    CHECK_EQ(journal_open(&none, "/dev/null", 0), -EPROTO);
    CHECK_EQ(journal_make(&book, 2), 0);
    journal_path(&book, path);
    CHECK_EQ(journal_open(&none, path, 2), -EPROTO);
    CHECK(!journal_is_open(&none));
    journal_end(&book);
    CHECK_EQ(journal_make(&book, JOURNAL_RINGS_MAX + 1), -EINVAL);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(two_threads);
    RUN(taken_when_said_so);
    RUN(full_means_no);
    RUN(outlives_who_noted);
    RUN(nothing_is_believed);
    RUN(cannot_be_cut_off);
    RUN(what_is_no_journal);
    return test_end("journal");
}
