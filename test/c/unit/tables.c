/*
 * The relay's own containers: slab, table, list, timer wheel.
 */
#include "slab.h"
#include "table.h"
#include "test.h"
#include "timer.h"
#include "way.h"

struct item {
    struct table_node node;
    struct timer timer;
    uint32_t key;
};

static void slab_hands_out_zeroed_objects_until_it_is_full(void)
{
    struct slab s;
    CHECK(slab_init(&s, sizeof(struct item), 3));
    struct item *a = slab_alloc(&s), *b = slab_alloc(&s), *c = slab_alloc(&s);
    CHECK(a && b && c && a != b && b != c);
    CHECK(!slab_alloc(&s));
    b->key = 7;
    slab_free(&s, b);
    CHECK_EQ(s.live, 2);
    struct item *d = slab_alloc(&s);
    CHECK(d == b);
    CHECK_EQ(d->key, 0);
    CHECK_EQ(slab_index(&s, d), 1);
    CHECK(slab_at(&s, 1) == d);
    slab_destroy(&s);
}

/* Kilobytes that the system has promised this program, as vm.overcommit_memory 2 counts them. */
static long promised(void)
{
    char line[128];
    long kb = 0, sum = 0;
    bool writable = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (strstr(line, "-p ") || strstr(line, "-s "))
            writable = strstr(line, " rw-p ") != NULL;
        else if (writable && sscanf(line, "Size: %ld kB", &kb) == 1)
            sum += kb;
    }
    if (f)
        fclose(f);
    return sum;
}

static void memory_is_promised_as_it_is_used(void)
{
    struct slab s;
    struct table t;
    long before = promised();
    CHECK(slab_init(&s, 256, 1 << 20)); /* 256 MiB, were all of them used */
    CHECK(table_init(&t, 1 << 20));
    CHECK(promised() - before < 4096);
    for (int i = 0; i < 100000; i++)
        memset(slab_alloc(&s), 1, 256);
    CHECK(promised() - before >= 25000);
    CHECK(promised() - before < 30000);
    table_destroy(&t);
    slab_destroy(&s);
    CHECK(promised() - before < 1024);
}

static void without_memory_a_slab_is_full(void)
{
    struct memory m;
    CHECK(memory_plan(&m, 1 << 20));
    CHECK(memory_use(&m, 1));
    CHECK(memory_use(&m, 1 << 20));
    CHECK(!memory_use(&m, (1 << 20) + 1));
    memset(m.base, 1, 1 << 20);
    memory_end(&m);
}

static struct item *find(struct table *t, uint32_t key)
{
    uint32_t h = table_hash(t, &key, sizeof(key));
    struct table_node *n;
    table_for_each(n, t, h)
    {
        struct item *i = container_of(n, struct item, node);
        if (i->key == key)
            return i;
    }
    return NULL;
}

static void table_finds_what_is_in_it_and_nothing_else(void)
{
    enum { N = 5000 }; /* far more than buckets: chains work */
    static struct item items[N];
    struct table t;
    CHECK(table_init(&t, 100));
    for (uint32_t i = 0; i < N; i++) {
        items[i].key = i;
        table_insert(&t, &items[i].node, table_hash(&t, &i, sizeof(i)));
    }
    CHECK_EQ(t.count, N);
    for (uint32_t i = 0; i < N; i += 2)
        table_remove(&t, &items[i].node);
    table_remove(&t, &items[0].node); /* twice is harmless */
    CHECK_EQ(t.count, N / 2);
    unsigned wrong = 0;
    for (uint32_t i = 0; i < N + 100; i++)
        wrong += find(&t, i) != (i < N && i % 2 ? &items[i] : NULL);
    CHECK_EQ(wrong, 0);
    table_destroy(&t);
}

/* Growing moves nodes from bucket to bucket; none may be lost or stay behind. */
static void table_grows_with_what_is_in_it(void)
{
    enum { N = 40000 };
    static struct item items[N];
    struct table t;
    CHECK(table_init(&t, 1u << 20));
    unsigned wrong = 0, crowded = 0;
    for (uint32_t i = 0; i < N; i++) {
        items[i].key = i;
        table_insert(&t, &items[i].node, table_hash(&t, &i, sizeof(i)));
        wrong += find(&t, i) != &items[i] || find(&t, i / 2) != &items[i / 2];
        crowded += t.used < t.count;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(crowded, 0);
    CHECK(t.used <= 2 * N + 2);
    for (uint32_t i = 0; i < N; i += 3)
        table_remove(&t, &items[i].node);
    for (uint32_t i = 0; i < N; i++)
        wrong += find(&t, i) != (i % 3 ? &items[i] : NULL);
    CHECK_EQ(wrong, 0);
    table_destroy(&t);
}

static void tables_hash_by_keys_of_their_own(void)
{
    struct table a, b;
    CHECK(table_init(&a, 1) && table_init(&b, 1));
    CHECK(table_hash(&a, "x", 1) != table_hash(&b, "x", 1) ||
          table_hash(&a, "y", 1) != table_hash(&b, "y", 1));
    table_destroy(&a);
    table_destroy(&b);
}

static unsigned due_count;
static struct timer *due_last;

static void due(struct timers *w, struct timer *t)
{
    (void)w;
    due_count++;
    due_last = t;
}

#define S (4 * TIMER_TICK_NS)

static void timers_run_when_due_and_not_before(void)
{
    static struct timers w;
    struct item a = {.timer.due = due}, b = {.timer.due = due}, c = {.timer.due = due};
    timers_init(&w, 100 * S);
    CHECK_EQ(timers_sleep(&w, 100 * S), UINT64_MAX);
    timer_set(&w, &a.timer, 101 * S);
    timer_set(&w, &b.timer, 4000 * S); /* many turns of the wheel away */
    timer_set(&w, &c.timer, 102 * S);
    CHECK(timers_sleep(&w, 100 * S) <= TIMER_TICK_NS);
    due_count = 0;
    timers_run(&w, 101 * S - 1);
    CHECK_EQ(due_count, 0);
    timers_run(&w, 101 * S + TIMER_TICK_NS);
    CHECK_EQ(due_count, 1);
    CHECK(due_last == &a.timer);
    timer_set(&w, &c.timer, 200 * S); /* prolonged: left where it is, moved when found */
    timers_run(&w, 150 * S);
    CHECK_EQ(due_count, 1);
    timers_run(&w, 200 * S + TIMER_TICK_NS);
    CHECK_EQ(due_count, 2);
    CHECK(due_last == &c.timer);
    for (uint64_t s = 201; s < 4000; s++)
        timers_run(&w, s * S);
    CHECK_EQ(due_count, 2);
    timers_run(&w, 4000 * S + TIMER_TICK_NS);
    CHECK_EQ(due_count, 3);
    CHECK_EQ(w.count, 0);
}

static void timers_may_be_brought_forward_and_cleared(void)
{
    static struct timers w;
    struct item a = {.timer.due = due}, b = {.timer.due = due};
    timers_init(&w, 0);
    timer_set(&w, &a.timer, 900 * S);
    timer_set(&w, &a.timer, 5 * S);
    timer_set(&w, &b.timer, 5 * S);
    timer_clear(&w, &b.timer);
    timer_clear(&w, &b.timer);
    due_count = 0;
    timers_run(&w, 6 * S);
    CHECK_EQ(due_count, 1);
    CHECK(due_last == &a.timer);
    CHECK_EQ(w.count, 0);
}

static void timers_survive_a_sleep_longer_than_the_wheel(void)
{
    static struct timers w;
    static struct item items[100];
    timers_init(&w, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
        items[i].timer.due = due;
        timer_set(&w, &items[i].timer, (i * 97 + 1) * S);
    }
    due_count = 0;
    timers_run(&w, 100000 * S);
    CHECK_EQ(due_count, ARRAY_SIZE(items));
    CHECK_EQ(w.count, 0);
}

#define RUN(f) (test_begin(#f), f())

static void a_way_leads_to_its_own_end_or_nowhere(void)
{
    struct ways t, others;
    struct way_end a, b, c, theirs;
    CHECK(ways_init(&t, 3, 2) && ways_init(&others, 4, 2));
    CHECK(way_resolve(&t, (struct way){0}) == NULL);
    CHECK(way_open(&t, &a) && way_open(&t, &b) && way_open(&others, &theirs));
    CHECK(!way_open(&t, &c)); /* there are two places */
    CHECK(way_resolve(&t, a.way) == &a && way_resolve(&t, b.way) == &b);
    CHECK(way_resolve(&t, theirs.way) == NULL); /* another worker's */

    struct way kept = a.way;
    way_hold(&t, kept);
    CHECK_EQ(a.holds, 1);
    way_close(&t, &a);
    CHECK(way_resolve(&t, kept) == NULL);
    CHECK(way_open(&t, &c)); /* in the place of a */
    CHECK(way_resolve(&t, kept) == NULL && way_resolve(&t, c.way) == &c);
    way_release(&t, kept); /* harmless, and not c's */
    CHECK_EQ(c.holds, 0);
    way_close(&t, &b);
    way_close(&t, &c);
    CHECK(way_resolve(&t, (struct way){0}) == NULL);
    CHECK(way_open(&t, &a) && way_open(&t, &b) && a.way.number != b.way.number);
    ways_destroy(&t);
    ways_destroy(&others);
}

static void generations_of_ways_come_round(void)
{
    struct ways t;
    struct way_end a;
    CHECK(ways_init(&t, 0, 1));
    for (uint32_t i = 0; i < 0xffffff + 2u; i++) {
        way_open(&t, &a);
        way_close(&t, &a);
    }
    CHECK(way_open(&t, &a));
    CHECK_EQ(a.way.number >> 32, 3); /* 0 is none */
    ways_destroy(&t);
}

int main(void)
{
    RUN(slab_hands_out_zeroed_objects_until_it_is_full);
    RUN(memory_is_promised_as_it_is_used);
    RUN(without_memory_a_slab_is_full);
    RUN(table_finds_what_is_in_it_and_nothing_else);
    RUN(table_grows_with_what_is_in_it);
    RUN(tables_hash_by_keys_of_their_own);
    RUN(timers_run_when_due_and_not_before);
    RUN(timers_may_be_brought_forward_and_cleared);
    RUN(timers_survive_a_sleep_longer_than_the_wheel);
    RUN(a_way_leads_to_its_own_end_or_nowhere);
    RUN(generations_of_ways_come_round);
    return test_end("tables");
}
