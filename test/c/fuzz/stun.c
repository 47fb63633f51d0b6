/*
 * Any bytes to the codec: parse, read everything, walk, rebuild, sign. Beyond not crashing, what
 * was accepted must survive being written again.
 */
#include "stun.h"

#include "fuzz.h"

static const char key[] = "fuzz";

static uint8_t first[STUN_LEN_MAX + 64], second[STUN_LEN_MAX + 64];

/* Reads the row by its kind; what the getter and the check say must agree. */
static void read_row(const struct stun_view *v, enum stun_attr_id id)
{
    const uint8_t *bytes = NULL;
    size_t len = 0;
    uint64_t value;
    uint16_t code;
    uint8_t family;
    struct addr a;
    enum stun_err err;
    switch (stun_attr_table[id].kind) {
    case STUN_KIND_ADDR:
    case STUN_KIND_XADDR:
        err = stun_get_addr(v, id, &a);
        break;
    case STUN_KIND_ERROR:
    case STUN_KIND_ADDRERR:
        err = stun_get_error(v, id, &code, &family, &bytes, &len);
        break;
    case STUN_KIND_BYTES:
    case STUN_KIND_ICMP:
    case STUN_KIND_TYPES:
    case STUN_KIND_ALG:
    case STUN_KIND_ALGS:
        err = stun_get_bytes(v, id, &bytes, &len);
        break;
    default:
        err = stun_get_uint(v, id, &value);
    }
    FUZZ_ASSERT((err == STUN_ERR_ABSENT) == !stun_has(v, id));
    if (err == STUN_OK && len > 0)
        FUZZ_ASSERT(bytes >= v->data + 24 && bytes + len <= v->data + v->len);
    if (err != STUN_ERR_ABSENT) {
        const uint8_t *p = v->data + v->at[id];
        FUZZ_ASSERT(load16(p) == stun_attr_table[id].code);
        FUZZ_ASSERT(stun_value_check(id, p + 4, load16(p + 2)) == err);
    }
}

/* Writes one attribute by what it means where that is known, else as it lies. */
static void put_again(struct stun_builder *b, const struct stun_iter *it)
{
    uint64_t value;
    struct addr a;
    if (it->id < 0) {
        stun_put_raw(b, it->code, it->value, it->len);
        return;
    }
    enum stun_attr_id id = (enum stun_attr_id)it->id;
    bool good = stun_value_check(id, it->value, it->len) == STUN_OK;
    enum stun_kind kind = stun_attr_table[id].kind;
    if (good && (kind == STUN_KIND_ADDR || kind == STUN_KIND_XADDR)) {
        FUZZ_ASSERT(stun_iter_addr(it, &a) == STUN_OK);
        stun_put_addr(b, id, &a);
    } else if (good && kind >= STUN_KIND_FLAG && kind <= STUN_KIND_EVEN) {
        FUZZ_ASSERT(stun_value_uint(id, it->value, it->len, &value) == STUN_OK);
        stun_put_uint(b, id, value);
    } else {
        stun_put_bytes(b, id, it->value, it->len);
    }
}

/* Everything that counts, by meaning; FINGERPRINT made anew. */
static size_t rebuild(const struct stun_view *v, uint8_t *buf)
{
    struct stun_builder b;
    struct stun_iter it;
    stun_build_start(&b, buf, STUN_LEN_MAX, (enum stun_class)v->cls, v->method, v->txid);
    for (stun_iter_init(&it, v); stun_iter_next(&it);)
        if (it.id != A_fingerprint)
            put_again(&b, &it);
    if (v->has_fingerprint)
        stun_put_fingerprint(&b);
    return stun_build_end(&b);
}

static void same_view(const struct stun_view *a, const struct stun_view *b)
{
    struct stun_iter x, y;
    FUZZ_ASSERT(a->cls == b->cls && a->method == b->method);
    FUZZ_ASSERT(memcmp(a->txid, b->txid, STUN_TXID_LEN) == 0);
    FUZZ_ASSERT(a->has_fingerprint == b->has_fingerprint);
    FUZZ_ASSERT(a->unknown_count == b->unknown_count);
    FUZZ_ASSERT(memcmp(a->unknown, b->unknown, a->unknown_count * sizeof(a->unknown[0])) == 0);
    stun_iter_init(&x, a);
    stun_iter_init(&y, b);
    while (stun_iter_next(&x)) {
        FUZZ_ASSERT(stun_iter_next(&y));
        FUZZ_ASSERT(x.code == y.code && x.id == y.id);
        if (x.id >= 0 && x.id != A_fingerprint) {
            enum stun_attr_id id = (enum stun_attr_id)x.id;
            FUZZ_ASSERT(stun_value_check(id, x.value, x.len) ==
                        stun_value_check(id, y.value, y.len));
        }
    }
    FUZZ_ASSERT(!stun_iter_next(&y));
}

/* What counts before a signature, signed by us, must be found signed by us. */
static void sign(const struct stun_view *v, bool sha256)
{
    struct stun_builder b;
    struct stun_iter it;
    struct stun_view again;
    bool match = false;
    stun_build_start(&b, second, STUN_LEN_MAX, (enum stun_class)v->cls, v->method, v->txid);
    for (stun_iter_init(&it, v); stun_iter_next(&it);) {
        if (it.id == A_message_integrity || it.id == A_message_integrity_sha256 ||
            it.id == A_fingerprint)
            break;
        stun_put_raw(&b, it.code, it.value, it.len);
    }
    if (sha256)
        stun_put_integrity_sha256(&b, key, sizeof(key));
    else
        stun_put_integrity(&b, key, sizeof(key));
    stun_put_fingerprint(&b);
    size_t len = stun_build_end(&b);
    if (len == 0)
        return; /* no room for a signature */
    FUZZ_ASSERT(stun_parse(&again, second, len) == STUN_OK);
    FUZZ_ASSERT(again.has_fingerprint);
    enum stun_err err = sha256 ? stun_check_integrity_sha256(&again, key, sizeof(key), &match)
                               : stun_check_integrity(&again, key, sizeof(key), &match);
    FUZZ_ASSERT(err == STUN_OK && match);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stun_view v, w;
    bool match;
    enum stun_err err = stun_parse(&v, data, size);
    FUZZ_ASSERT(strcmp(stun_err_name(err), "unknown") != 0);
    if (err != STUN_OK)
        return 0;
    FUZZ_ASSERT(v.counted_end >= STUN_HEADER_LEN && v.counted_end <= size);
    for (unsigned id = 0; id < STUN_ATTR_COUNT; id++)
        read_row(&v, (enum stun_attr_id)id);
    (void)stun_check_integrity(&v, key, sizeof(key), &match);
    (void)stun_check_integrity_sha256(&v, key, sizeof(key), &match);

    size_t len = rebuild(&v, first);
    FUZZ_ASSERT(len >= STUN_HEADER_LEN && len <= size);
    FUZZ_ASSERT(stun_parse(&w, first, len) == STUN_OK);
    same_view(&v, &w);
    FUZZ_ASSERT(rebuild(&w, second) == len);
    FUZZ_ASSERT(memcmp(first, second, len) == 0);
    sign(&v, false);
    sign(&v, true);
    return 0;
}

/* Makes about half of what the engine invents pass the first doors: cookie, length, fingerprint. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size < STUN_HEADER_LEN || seed % 2 == 0)
        return size;
    size &= ~(size_t)3;
    data[0] &= 0x3f;
    store16(data + 2, (uint16_t)(size - STUN_HEADER_LEN));
    store32(data + 4, STUN_MAGIC_COOKIE);
    if (size >= STUN_HEADER_LEN + 8 && load16(data + size - 8) == 0x8028) {
        struct stun_builder b = {.w = wbytes_of(data, size)};
        b.w.p = data + size - 8;
        stun_put_fingerprint(&b);
    }
    return size;
}
