/*
 * See source.h. gather() is the way through: it scans one file and comes back to itself at each
 * include.
 */
#include "source.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the text and where it came from --- */

void source_free(struct source *s)
{
    for (unsigned i = 0; i < s->file_count; i++)
        free(s->files[i]);
    free(s->pieces);
    free(s->text);
}

static bool source_append(struct source *s, unsigned file, const char *p, size_t n)
{
    if (s->len + n + 1 > s->cap) {
        size_t cap = 2 * (s->len + n + 1);
        char *text = realloc(s->text, cap);
        if (!text)
            return conf_fail_errno(s->err, s->files[file], ENOMEM);
        s->text = text;
        s->cap = cap;
    }
    memcpy(s->text + s->len, p, n);
    s->len += n;
    s->text[s->len] = '\0';
    for (size_t i = 0; i < n; i++)
        s->lines += p[i] == '\n';
    return true;
}

/* The line now being written continues with `line` of a file. */
static bool source_place(struct source *s, unsigned file, unsigned line)
{
    struct piece *pieces = realloc(s->pieces, (s->piece_count + 1) * sizeof(*pieces));

    if (!pieces)
        return conf_fail_errno(s->err, s->files[file], ENOMEM);
    s->pieces = pieces;
    s->pieces[s->piece_count++] = (struct piece){s->lines, file, line};
    return true;
}

const char *source_find(const struct source *s, unsigned joined, unsigned *line)
{
    size_t i = s->piece_count - 1;

    while (i > 0 && s->pieces[i].joined > joined)
        i--;
    *line = s->pieces[i].line + (joined - s->pieces[i].joined);
    return s->files[s->pieces[i].file];
}

static bool source_name(struct source *s, const char *name, unsigned *file)
{
    if (s->file_count == CONF_FILES_MAX)
        return conf_fail(s->err, name, 0, "more than %d files", CONF_FILES_MAX);
    if (!(s->files[s->file_count] = strdup(name)))
        return conf_fail_errno(s->err, name, ENOMEM);
    *file = s->file_count++;
    return true;
}

/* --- reading --- */

/* A regular file's content, NUL-terminated, to be freed; NULL after conf_fail(). */
static char *slurp(struct conf_error *err, const char *name)
{
    /* Without O_NONBLOCK, opening a FIFO would wait for a writer. */
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    char *text = NULL;
    size_t len = 0;
    ssize_t n;

    if (fd < 0) {
        conf_fail_errno(err, name, errno);
        return NULL;
    }
    if (fstat(fd, &st) != 0) {
        conf_fail_errno(err, name, errno);
        goto err_close;
    }
    if (!S_ISREG(st.st_mode)) {
        conf_fail(err, name, 0, "not a regular file");
        goto err_close;
    }
    if (!(text = malloc(CONF_SIZE_MAX + 2))) {
        conf_fail_errno(err, name, ENOMEM);
        goto err_close;
    }
    while ((n = read(fd, text + len, CONF_SIZE_MAX + 1 - len)) > 0)
        len += (size_t)n;
    if (n < 0) {
        conf_fail_errno(err, name, errno);
        goto err_free;
    }
    if (len > CONF_SIZE_MAX) {
        conf_fail(err, name, 0, "more than %d bytes", CONF_SIZE_MAX);
        goto err_free;
    }
    text[len] = '\0';
    if (strlen(text) != len) {
        conf_fail(err, name, 0, "holds a NUL byte");
        goto err_free;
    }
    close(fd);
    return text;

err_free:
    free(text);
err_close:
    close(fd);
    return NULL;
}

static bool gather(struct source *s, const char *name, const char *text, unsigned depth);

static bool gather_file(struct source *s, const char *name, unsigned depth)
{
    char *text = slurp(s->err, name);
    bool ok = text && gather(s, name, text, depth);

    free(text);
    return ok;
}

static int is_config_file(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return e->d_name[0] != '.' && dot && (strcmp(dot, ".conf") == 0 || strcmp(dot, ".cfg") == 0);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool gather_directory(struct source *s, const char *dir, unsigned depth)
{
    struct dirent **entries;
    char name[CONF_FILE_NAME_MAX];
    bool ok = true;
    int n = scandir(dir, &entries, is_config_file, by_bytes);

    if (n < 0)
        return conf_fail_errno(s->err, dir, errno);
    for (int i = 0; i < n; i++) {
        if (ok) {
            int len = snprintf(name, sizeof(name), "%s/%s", dir, entries[i]->d_name);
            if (len < 0 || (size_t)len >= sizeof(name))
                ok = conf_fail(s->err, dir, 0, "file name too long");
            else
                ok = gather_file(s, name, depth);
        }
        free(entries[i]);
    }
    free(entries);
    return ok;
}

/* --- scanning: as much of the language as it takes to tell code from strings and comments --- */

/* The text being scanned: all before `kept` is in the source. */
struct scan {
    struct source *s;
    unsigned file, line, depth;
    const char *p, *kept;
};

static bool scan_fail(const struct scan *c, const char *reason)
{
    return conf_fail(c->s->err, c->s->files[c->file], c->line, "%s", reason);
}

/* Moves to `to`, over whatever lies between. */
static void scan_to(struct scan *c, const char *to)
{
    for (; c->p < to; c->p++)
        c->line += *c->p == '\n';
}

static bool scan_flush(struct scan *c)
{
    const char *kept = c->kept;

    c->kept = c->p;
    return source_append(c->s, c->file, kept, (size_t)(c->p - kept));
}

/* Joins the directory of the including file and a name. */
static bool include_path(const struct scan *c, const char *name, size_t len, char *out, size_t cap)
{
    const char *from = c->s->files[c->file];
    const char *slash = name[0] == '/' ? NULL : strrchr(from, '/');
    int dir = slash ? (int)(slash - from + 1) : 0;
    int n = snprintf(out, cap, "%.*s%.*s", dir, from, (int)len, name);

    return n >= 0 && (size_t)n < cap;
}

/* p lies behind the opening quote of an include's name; the line up to it is dropped. */
static bool scan_include(struct scan *c, const char *name)
{
    size_t len = strcspn(name, "\"\\\n");
    char path[CONF_FILE_NAME_MAX];
    struct stat st;
    bool ok;

    if (!c->s->may_include)
        return scan_fail(c, "@include is for files");
    if (name[len] != '"' || len == 0)
        return scan_fail(c, "@include without a proper file name");
    if (c->depth + 1 == CONF_INCLUDE_DEPTH_MAX)
        return scan_fail(c, "includes nested too deeply");
    if (!include_path(c, name, len, path, sizeof(path)))
        return scan_fail(c, "file name too long");
    if (!scan_flush(c))
        return false;
    if (stat(path, &st) != 0)
        return conf_fail(c->s->err, c->s->files[c->file], c->line, "cannot include %s: %s", path,
                         strerror(errno));
    ok = S_ISDIR(st.st_mode) ? gather_directory(c->s, path, c->depth + 1)
                             : gather_file(c->s, path, c->depth + 1);
    if (!ok)
        return false;
    scan_to(c, name + len + 1);
    c->kept = c->p;
    return source_place(c->s, c->file, c->line);
}

/* Where the name of an include begins, if this line is one. */
static const char *include_open(const char *p)
{
    static const char word[] = "@include";

    p += strspn(p, " \t");
    if (strncmp(p, word, sizeof(word) - 1) != 0)
        return NULL;
    p += sizeof(word) - 1;
    size_t blanks = strspn(p, " \t");
    return blanks && p[blanks] == '"' ? p + blanks + 1 : NULL;
}

static bool scan_string(struct scan *c)
{
    const char *q = c->p + 1;

    for (; *q != '"'; q++) {
        if (*q == '\0')
            return scan_fail(c, "string without end");
        if (*q != '\\')
            continue;
        if (strncmp(q, "\\x00", 4) == 0 || strncmp(q, "\\X00", 4) == 0)
            return scan_fail(c, "\\x00 in a string");
        if (q[1] == '"' || q[1] == '\\')
            q++;
    }
    scan_to(c, q + 1);
    return true;
}

static bool scan_comment(struct scan *c)
{
    const char *end = strstr(c->p + 2, "*/");

    if (!end)
        return scan_fail(c, "comment without end");
    scan_to(c, end + 2);
    return true;
}

static const char float_chars[] = "0123456789.eE+-";

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool is_letter(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
}

/* 0x1f is passed on as 31, for libconfig 1.8 makes 32 bits of it even with the suffix L. */
static bool scan_hex(struct scan *c)
{
    char *end, decimal[24];
    unsigned long long value = strtoull(c->p, &end, 16);

    if (value > INT64_MAX)
        return scan_fail(c, "integer out of range");
    if (!scan_flush(c))
        return false;
    int n = snprintf(decimal, sizeof(decimal), "%llu%s", value, *end == 'L' ? "" : "L");
    scan_to(c, end);
    c->kept = end;
    return source_append(c->s, c->file, decimal, (size_t)n);
}

/* libconfig makes 32 bits of an integer without the suffix L, whatever is lost, and an array of
 * integers with and without it is an error. So each gets the suffix, and those too large for 64
 * bits are refused. Floats are judged when they are visited. */
static bool scan_integer(struct scan *c)
{
    bool hex = c->p[0] == '0' && (c->p[1] == 'x' || c->p[1] == 'X');
    char *end;

    if (hex && isxdigit((unsigned char)c->p[2]))
        return scan_hex(c);
    errno = 0;
    strtoll(c->p, &end, 10);
    if (*end && strchr(".eE", *end)) {
        scan_to(c, end + strspn(end, float_chars));
        return true;
    }
    if (errno == ERANGE)
        return scan_fail(c, "integer out of range");
    scan_to(c, end);
    return *end == 'L' || (scan_flush(c) && source_append(c->s, c->file, "L", 1));
}

/* One token, or one character of no interest. */
static bool scan_token(struct scan *c)
{
    static const char in_name[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*-_0123456789";
    const char *p = c->p;

    switch (*p) {
    case '"':
        return scan_string(c);
    case '#':
        scan_to(c, p + strcspn(p, "\n"));
        return true;
    case '/':
        if (p[1] == '*')
            return scan_comment(c);
        scan_to(c, p[1] == '/' ? p + strcspn(p, "\n") : p + 1);
        return true;
    case '{':
    case '[':
    case '(':
        if (++c->s->nesting > CONF_NESTING_MAX)
            return scan_fail(c, "groups and lists nested too deeply");
        break;
    case '}':
    case ']':
    case ')':
        if (c->s->nesting > 0)
            c->s->nesting--;
        break;
    case '+':
    case '-':
        if (is_digit(p[1]))
            return scan_integer(c);
        break;
    case '.':
        scan_to(c, p + strspn(p, float_chars));
        return true;
    default:
        if (is_digit(*p))
            return scan_integer(c);
        if (is_letter(*p) || *p == '*') {
            scan_to(c, p + strspn(p, in_name));
            return true;
        }
    }
    scan_to(c, p + 1);
    return true;
}

static bool gather(struct source *s, const char *name, const char *text, unsigned depth)
{
    struct scan c = {.s = s, .line = 1, .depth = depth, .p = text, .kept = text};
    const char *include;
    bool ok;

    if ((s->size += strlen(text)) > CONF_SIZE_MAX)
        return conf_fail(s->err, name, 0, "more than %d bytes in all", CONF_SIZE_MAX);
    if (!source_name(s, name, &c.file) || !source_place(s, c.file, 1))
        return false;
    while (*c.p) {
        bool fresh = c.p == text || c.p[-1] == '\n';
        if (fresh && (include = include_open(c.p)))
            ok = scan_include(&c, include);
        else
            ok = scan_token(&c);
        if (!ok)
            return false;
    }
    if (!scan_flush(&c))
        return false;
    /* The last line ends, and s->text is there even when nothing is in it. */
    return source_append(s, c.file, "\n", c.p > text && c.p[-1] == '\n' ? 0 : 1);
}

bool source_add_text(struct source *s, const char *name, const char *text)
{
    return gather(s, name, text, 0);
}

bool source_add_file(struct source *s, const char *name)
{
    return gather_file(s, name, 0);
}
