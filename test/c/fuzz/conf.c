/*
 * Any bytes as a configuration: settings are visited whole and in range or not at all, and no
 * fault is without a reason. Opens nothing: includes are for files.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* libconfig 1.5 loses a string that comes where none may. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

__attribute__((visibility("default"))) const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

static void require(bool held)
{
    if (!held)
        abort();
}

struct seen {
    unsigned lines, settings;
};

static void visit(void *ctx, const struct conf_setting *s)
{
    struct seen *seen = ctx;
    char path[64];

    seen->settings++;
    require(s->depth >= 1 && s->depth <= CONF_NESTING_MAX + 1);
    require(s->path[0].name != NULL);
    for (unsigned i = 0; i < s->depth; i++)
        require(!s->path[i].name || s->path[i].name[0] != '\0');
    require(strlen(conf_path(s, path, sizeof(path))) < sizeof(path));
    require(strcmp(s->file, "fuzz") == 0);
    require(s->line >= 1 && s->line <= seen->lines);
    switch (s->type) {
    case CONF_FLOAT:
        require(isfinite(s->u.number));
        return;
    case CONF_STRING:
        require(s->u.string != NULL);
        require(strlen(s->u.string) <= CONF_SIZE_MAX);
        return;
    case CONF_INTEGER:
    case CONF_BOOLEAN:
    case CONF_EMPTY_GROUP:
    case CONF_EMPTY_LIST:
        return;
    }
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct seen seen = {.lines = 2};
    struct conf_error err = {.line = 0};

    for (size_t i = 0; i < len; i++)
        seen.lines += data[i] == '\n';
    if (conf_read_string("fuzz", (const char *)data, len, visit, &seen, &err))
        return 0;
    require(seen.settings == 0);
    require(strcmp(err.file, "fuzz") == 0);
    require(err.reason[0] != '\0');
    require(err.line <= seen.lines);
    return 0;
}
