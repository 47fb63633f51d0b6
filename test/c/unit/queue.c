/*
 * Cells, chains of them, and the queue towards a client that reads a stream: what goes in comes out
 * whole and in order, but for media that is late or too much (threat X94).
 */
#include "queue.h"

#include "frame.h"

#include "test.h"

enum { CELLS = 64, CAP = CELLS * CELL_ROOM };

static struct cells cells;
static uint8_t data[CAP], got[CAP];

static void fill(void)
{
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31 + (i >> 8));
}

static void chains(void)
{
    test_begin("a chain gives back what it was given");
    struct chain chain = {0};
    struct iovec iov[CELLS];
    size_t put = 0, taken = 0;
    for (size_t n = 1; put + n < 20000; n = n * 3 % 1999 + 1) {
        CHECK(chain_add(&cells, &chain, data + put, n));
        put += n;
        size_t drop = n / 2;
        unsigned pieces = chain_pieces(&chain, iov, CELLS);
        size_t at = 0;
        for (unsigned i = 0; i < pieces; i++) {
            memcpy(got + at, iov[i].iov_base, iov[i].iov_len);
            at += iov[i].iov_len;
        }
        CHECK_BYTES(got, at, data + taken, put - taken);
        memset(got, 0, at);
        chain_copy(&chain, got);
        CHECK_BYTES(got, chain.len, data + taken, put - taken);
        chain_drop(&cells, &chain, drop);
        taken += drop;
    }
    chain_drop(&cells, &chain, chain.len);
    CHECK(chain.len == 0 && !chain.first && !chain.last && chain.at == 0);
    CHECK_EQ(cells.live, 0);

    test_begin("all of it or nothing");
    CHECK(chain_add(&cells, &chain, data, CAP - 10));
    CHECK_EQ(cells.live, CELLS);
    CHECK(!chain_add(&cells, &chain, data, CELL_ROOM));
    CHECK_EQ(chain.len, CAP - 10);
    chain_drop(&cells, &chain, chain.len);
    CHECK_EQ(cells.live, 0);
}

static bool put(struct queue *q, enum queue_kind kind, uint64_t now, size_t len)
{
    return queue_put(&cells, q, kind, now, "head", 4, data, len);
}

/* Takes everything by pieces of cap; its length, with `got` filled. */
static size_t take_all(struct queue *q, size_t cap)
{
    size_t at = 0, n;
    while ((n = queue_take(&cells, q, got + at, MIN(cap, sizeof(got) - at))) > 0)
        at += n;
    return at;
}

static void frames(void)
{
    test_begin("frames come out whole, in order and padded (X92)");
    static const size_t lengths[] = {
        0, 1, 2, 3, 4, 5, CELL_ROOM - 4, CELL_ROOM - 3, 2 * CELL_ROOM, 10000};
    struct queue q = {0};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
        CHECK(put(&q, i % 2 ? QUEUE_MEDIA : QUEUE_ANSWER, i, lengths[i]));
    size_t bytes = q.bytes, all = take_all(&q, 4096), at = 0;
    CHECK_EQ(all, bytes);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        CHECK_MEM(got + at, "head", 4);
        CHECK(memcmp(got + at + 4, data, lengths[i]) == 0);
        at += 4 + lengths[i];
        for (size_t pad = frame_padding(lengths[i]); pad > 0; pad--)
            CHECK_EQ(got[at++], 0);
    }
    CHECK_EQ(at, all);
    CHECK(q.bytes == 0 && q.answers == 0 && cells.live == 0);
}

static void what_is_late(void)
{
    test_begin("late media goes, answers stay, the rest of a frame goes on (X94)");
    struct queue q = {0};
    put(&q, QUEUE_MEDIA, 1, 5000); /* begins to go */
    put(&q, QUEUE_ANSWER, 2, 100);
    put(&q, QUEUE_MEDIA, 3, 3000);
    put(&q, QUEUE_MEDIA, 4, 8);
    put(&q, QUEUE_ANSWER, 5, 12);
    put(&q, QUEUE_MEDIA, 6, 16);
    size_t begun = queue_take(&cells, &q, got, CELL_ROOM);
    CHECK_EQ(begun, CELL_ROOM);
    struct queue_drops drops = queue_trim(&cells, &q, 6, UINT32_MAX);
    CHECK(drops.late.n == 2 && drops.full.n == 0);
    CHECK_EQ(q.answers, 104 + 16);
    CHECK_EQ(q.bytes, 5004 - begun + 104 + 16 + 20);
    CHECK_EQ(queue_since(&q, 9), 1);
    put(&q, QUEUE_MEDIA, 7, 4);
    CHECK_EQ(take_all(&q, 4096), 5004 - begun + 104 + 16 + 20 + 8);
    CHECK_EQ(queue_since(&q, 9), 9);

    test_begin("too much media goes, the oldest first");
    for (uint64_t i = 0; i < 20; i++)
        put(&q, i == 3 ? QUEUE_ANSWER : QUEUE_MEDIA, i, 996);
    drops = queue_trim(&cells, &q, 0, 5000);
    CHECK(drops.late.n == 0 && drops.full.n == 15);
    CHECK_EQ(q.bytes, 5000);
    CHECK_EQ(queue_since(&q, 99), 3);
    drops = queue_trim(&cells, &q, 99, 5000);
    CHECK(drops.late.n == 4 && drops.full.n == 0);
    CHECK(q.bytes == 1000 && q.answers == 1000 && q.first == q.last);
    drops = queue_trim(&cells, &q, 99, 10);
    CHECK(drops.late.n == 0 && drops.full.n == 0);
    put(&q, QUEUE_MEDIA, 100, 996);
    CHECK_EQ(take_all(&q, 4096), 2000);

    test_begin("no more than there are cells");
    unsigned n = 0;
    while (put(&q, QUEUE_MEDIA, 1, 3 * CELL_ROOM))
        n++;
    CHECK_EQ(n, CELLS / 4);
    queue_trim(&cells, &q, 2, UINT32_MAX);
    CHECK_EQ(queue_media(&q).n, 0);
    CHECK(!q.first && !q.last && q.bytes == 0 && cells.live == 0);
    put(&q, QUEUE_MEDIA, 1, 100);
    queue_clear(&cells, &q);
    CHECK_EQ(cells.live, 0);
}

static void put_channel(struct queue *q, uint64_t now, uint16_t len)
{
    uint8_t head[4] = {0x40, 0, (uint8_t)(len >> 8), (uint8_t)len};
    CHECK(queue_put(&cells, q, QUEUE_MEDIA, now, head, sizeof(head), data, len));
}

static void what_goes_is_told(void)
{
    test_begin("what is dropped, or left over, is told in bytes, without padding");
    struct queue q = {0};
    for (uint16_t i = 0; i < 6; i++)
        put_channel(&q, i, 2001 + i);
    put(&q, QUEUE_ANSWER, 1, 100);
    CHECK_EQ(queue_take(&cells, &q, got, CELL_ROOM), CELL_ROOM); /* the first has begun */
    struct queue_dropped d = queue_trim(&cells, &q, 3, UINT32_MAX).late;
    CHECK_EQ(d.n, 2);
    CHECK_EQ(d.payload, 2002 + 2003);
    CHECK_EQ(d.bytes, d.payload + 2 * 4);
    d = queue_media(&q);
    CHECK_EQ(d.n, 3);
    CHECK_EQ(d.payload, 2004 + 2005 + 2006);
    CHECK_EQ(d.bytes, d.payload + 3 * 4);
    queue_clear(&cells, &q);
}

static void another_has_the_same(void)
{
    test_begin("another queue gets the rest of what has begun, and then frames as they came");
    static uint8_t one[8192];
    struct queue q = {0}, other = {0};
    put(&q, QUEUE_MEDIA, 1, 5000);
    put(&q, QUEUE_ANSWER, 2, 101);
    put(&q, QUEUE_MEDIA, 3, 3000);
    CHECK_EQ(queue_take(&cells, &q, got, CELL_ROOM), CELL_ROOM);
    struct queue_frame f;
    const struct cell *at = q.first;
    CHECK(!queue_copy(&at, &f, one, CELL_ROOM) && at == q.first);
    CHECK(queue_copy(&at, &f, one, sizeof(one)));
    CHECK(!f.whole && f.since == 1 && f.len == 5004 - CELL_ROOM);
    CHECK_MEM(one, data + CELL_ROOM - 4, f.len);
    for (unsigned n = 0; at; n++) {
        CHECK(queue_copy(&at, &f, one, sizeof(one)));
        CHECK(f.whole && f.since == 2 + n);
        CHECK_EQ(f.kind, n ? QUEUE_MEDIA : QUEUE_ANSWER);
        CHECK(queue_put(&cells, &other, f.kind, f.since, NULL, 0, one, f.len));
    }
    CHECK_EQ(other.bytes, 108 + 3004);
    CHECK_EQ(other.answers, 108);
    CHECK_EQ(take_all(&other, 4096), 108 + 3004);
    queue_clear(&cells, &q);
    CHECK_EQ(cells.live, 0);
}

int main(void)
{
    CHECK(cells_init(&cells, CELLS));
    fill();
    chains();
    frames();
    what_is_late();
    what_goes_is_told();
    another_has_the_same();
    cells_destroy(&cells);
    return test_end("queue");
}
