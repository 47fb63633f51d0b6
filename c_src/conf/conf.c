/*
 * See conf.h. source.c joins the files into one text, libconfig parses it, and here its tree is
 * visited.
 */
#include "conf.h"

#include <errno.h>
#include <libconfig.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"

enum { NAME_SHOWN_MAX = 40 };

struct walk {
    const struct source *s;
    conf_visit *visit; /* NULL: only look whether all can be visited */
    void *ctx;
    struct conf_step path[CONF_NESTING_MAX + 1];
    unsigned depth;
};

static bool walk_group(struct walk *w, const config_setting_t *group);

static bool walk_setting(struct walk *w, const config_setting_t *cs)
{
    struct conf_setting s = {.path = w->path, .depth = w->depth};

    s.file = source_find(w->s, cs->line, &s.line);
    switch (config_setting_type(cs)) {
    case CONFIG_TYPE_INT:
        s.type = CONF_INTEGER;
        s.u.integer = config_setting_get_int(cs);
        break;
    case CONFIG_TYPE_INT64:
        s.type = CONF_INTEGER;
        s.u.integer = config_setting_get_int64(cs);
        break;
    case CONFIG_TYPE_FLOAT:
        s.type = CONF_FLOAT;
        s.u.number = config_setting_get_float(cs);
        if (!isfinite(s.u.number))
            return conf_fail(w->s->err, s.file, s.line, "number out of range");
        break;
    case CONFIG_TYPE_BOOL:
        s.type = CONF_BOOLEAN;
        s.u.boolean = config_setting_get_bool(cs);
        break;
    case CONFIG_TYPE_STRING:
        s.type = CONF_STRING;
        s.u.string = config_setting_get_string(cs);
        break;
    default: /* group, list, array */
        if (config_setting_length(cs) > 0)
            return walk_group(w, cs);
        s.type = config_setting_is_group(cs) ? CONF_EMPTY_GROUP : CONF_EMPTY_LIST;
    }
    if (w->visit)
        w->visit(w->ctx, &s);
    return true;
}

static bool walk_group(struct walk *w, const config_setting_t *group)
{
    int n = config_setting_length(group);
    bool ok = true;

    for (int i = 0; ok && i < n; i++) {
        const config_setting_t *cs = config_setting_get_elem(group, (unsigned)i);
        w->path[w->depth++] = (struct conf_step){config_setting_name(cs), (unsigned)i};
        ok = walk_setting(w, cs);
        w->depth--;
    }
    return ok;
}

static const char *after_blanks(const char *at)
{
    return at + strspn(at, " \t\r");
}

/* What line number `line` of the text begins with, as far as it may be shown: the name of a
 * setting, or a single sign. A value is never shown, it may be a secret that lacks its quotes. */
static void begins_with(const struct source *s, unsigned line, char *buf, size_t cap)
{
    const char *at = s->text, *end;
    int len;

    snprintf(buf, cap, " here");
    for (unsigned i = 1; at && i < line; i++) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    if (!at)
        return;
    at = after_blanks(at);
    end = at + strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-*");
    len = (int)(end - at);
    if (len > 0 && len <= NAME_SHOWN_MAX && strchr("=:", *after_blanks(end)) && *after_blanks(end))
        snprintf(buf, cap, " at \"%.*s\"", len, at);
    else if (len == 0 && *at && strchr("=:;,(){}[]", *at))
        snprintf(buf, cap, " at \"%c\"", *at);
}

/* libconfig says which line has a name for the second time, and not which name. */
static bool other_error(const struct source *s, unsigned joined, const char *text)
{
    char at[NAME_SHOWN_MAX + 8] = "";
    unsigned line;
    const char *file = source_find(s, joined, &line);

    if (strcmp(text, "duplicate setting name") == 0)
        begins_with(s, joined, at, sizeof(at));
    return conf_fail(s->err, file, line, "%s%s", text, at);
}

/* libconfig finds a fault where it cannot read on, which may be behind where it was made. */
static bool syntax_error(const struct source *s, unsigned joined)
{
    char at[NAME_SHOWN_MAX + 8];
    unsigned line;
    const char *file = source_find(s, joined, &line);

    begins_with(s, joined, at, sizeof(at));
    return conf_fail(s->err, file, line,
                     "syntax error%s, or before it: a setting is name = value; and a value is a "
                     "number, true, false, a text in \"quotes\", a list ( , ) or a group { }",
                     at);
}

static bool parse(struct source *s, conf_visit *visit, void *ctx)
{
    config_t config;
    bool ok;

    config_init(&config);
    /* Should it see an @include where source.c saw none, it must find nothing to open. */
    config_set_include_dir(&config, "/dev/null");
    ok = config_read_string(&config, s->text);
    if (!ok) {
        unsigned joined = (unsigned)config_error_line(&config);
        if (strcmp(config_error_text(&config), "syntax error") == 0)
            syntax_error(s, joined);
        else
            other_error(s, joined, config_error_text(&config));
    } else {
        struct walk look = {.s = s}, w = {.s = s, .visit = visit, .ctx = ctx};
        ok = walk_group(&look, config_root_setting(&config)) &&
             walk_group(&w, config_root_setting(&config));
    }
    config_destroy(&config);
    return ok;
}

bool conf_read_file(const char *name, conf_visit *visit, void *ctx, struct conf_error *err)
{
    struct source s = {.lines = 1, .may_include = true, .err = err};
    bool ok = source_add_file(&s, name) && parse(&s, visit, ctx);

    source_free(&s);
    return ok;
}

bool conf_read_string(const char *name, const char *text, size_t len, conf_visit *visit, void *ctx,
                      struct conf_error *err)
{
    struct source s = {.lines = 1, .err = err};
    char *copy;
    bool ok;

    if (len > CONF_SIZE_MAX)
        return conf_fail(err, name, 0, "more than %d bytes", CONF_SIZE_MAX);
    if (len > 0 && memchr(text, '\0', len))
        return conf_fail(err, name, 0, "holds a NUL byte");
    if (!(copy = strndup(len > 0 ? text : "", len)))
        return conf_fail_errno(err, name, ENOMEM);
    ok = source_add_text(&s, name, copy) && parse(&s, visit, ctx);
    free(copy);
    source_free(&s);
    return ok;
}

const char *conf_path(const struct conf_setting *s, char *buf, size_t cap)
{
    size_t len = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < s->depth && len < cap; i++) {
        const struct conf_step *step = &s->path[i];
        int n = step->name ? snprintf(buf + len, cap - len, "%s%s", i ? "." : "", step->name)
                           : snprintf(buf + len, cap - len, "[%u]", step->index);
        len += n > 0 ? (size_t)n : 0;
    }
    return buf;
}
