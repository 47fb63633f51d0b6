/*
 * Mail between two threads: nothing lost, nothing torn, nothing out of order.
 */
#include "mailbox.h"

#include <pthread.h>
#include <sched.h>

#include "test.h"

enum { SIZE = 4096, RECORDS = 200000 };

static struct mailbox box;

/* Record i has a length and bytes that follow from i. */
static uint32_t length_of(uint32_t i)
{
    return 4 + (i * 2654435761u >> 20) % 700;
}

static void *write_all(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint32_t len = length_of(i);
        uint8_t *record;
        while (!(record = mailbox_reserve(&box, len + 9)))
            sched_yield();
        memset(record, (int)(i & 0xff), len);
        memcpy(record, &i, sizeof(i));
        mailbox_commit(&box, record, len); /* shorter than reserved */
    }
    return NULL;
}

static void two_threads(void)
{
    CHECK(mailbox_init(&box, SIZE));
    pthread_t writer;
    CHECK_EQ(pthread_create(&writer, NULL, write_all, NULL), 0);
    unsigned wrong = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const uint8_t *record;
        uint32_t len, number;
        while (!(record = mailbox_peek(&box, &len)))
            sched_yield();
        memcpy(&number, record, sizeof(number));
        wrong += number != i || len != length_of(i);
        for (uint32_t b = 4; b < len; b++)
            wrong += record[b] != (uint8_t)i;
        mailbox_consume(&box);
    }
    pthread_join(writer, NULL);
    uint32_t len;
    CHECK_EQ(wrong, 0);
    CHECK(!mailbox_peek(&box, &len));
    mailbox_destroy(&box);
}

static void full_means_no(void)
{
    uint32_t len, stored = 0;
    uint8_t *record;
    CHECK(mailbox_init(&box, SIZE));
    CHECK(!mailbox_reserve(&box, SIZE));
    while ((record = mailbox_reserve(&box, 100))) {
        memset(record, 1, 100);
        mailbox_commit(&box, record, 100);
        stored++;
    }
    CHECK_EQ(stored, SIZE / 104);
    CHECK(mailbox_room(&box) < 100);
    CHECK(mailbox_peek(&box, &len));
    mailbox_consume(&box);
    CHECK(mailbox_reserve(&box, 90));
    mailbox_destroy(&box);
}

/* Memory is touched by what waits at once, not by what has ever passed. */
static void an_empty_box_begins_at_its_start(void)
{
    uint32_t len;
    unsigned astray = 0;
    CHECK(mailbox_init(&box, SIZE));
    for (uint32_t i = 0; i < 10000; i++) {
        for (unsigned n = 0; n < 2; n++) {
            uint8_t *record = mailbox_reserve(&box, 704);
            astray += !record || record + 704 > box.buf + 2 * 712;
            mailbox_commit(&box, record, length_of(i));
        }
        for (unsigned n = 0; n < 2; n++) {
            astray += !mailbox_peek(&box, &len) || len != length_of(i);
            mailbox_consume(&box);
        }
    }
    CHECK_EQ(astray, 0);
    mailbox_destroy(&box);
}

static void room_is_a_promise(void)
{
    CHECK(mailbox_init(&box, SIZE));
    unsigned broken = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t len = length_of(i), room = mailbox_room(&box), ignored;
        uint8_t *record = mailbox_reserve(&box, len);
        broken += room >= len && !record;
        if (record)
            mailbox_commit(&box, record, len);
        if (i % 3 || !record) {
            if (mailbox_peek(&box, &ignored))
                mailbox_consume(&box);
        }
    }
    CHECK_EQ(broken, 0);
    mailbox_destroy(&box);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(two_threads);
    RUN(full_means_no);
    RUN(an_empty_box_begins_at_its_start);
    RUN(room_is_a_promise);
    return test_end("mailbox");
}
