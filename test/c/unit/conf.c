/*
 * Configuration files: every kind of value with its place, includes, and what is refused. Writes
 * its files below a temporary directory of its own.
 */
#include "conf.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

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

static char dir[] = "/tmp/meerkat_conf.XXXXXX";

/* What was visited, a line for each setting: "path=value file:line". */
static struct {
    char text[4096];
    size_t len;
} seen;

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(seen.text + seen.len, sizeof(seen.text) - seen.len, fmt, args);
    va_end(args);
    if (n > 0 && seen.len + (size_t)n < sizeof(seen.text))
        seen.len += (size_t)n;
}

static void visit(void *ctx, const struct conf_setting *s)
{
    const char *file = strncmp(s->file, dir, strlen(dir)) == 0 ? s->file + strlen(dir) : s->file;
    char path[128];

    CHECK(ctx == &seen);
    note("%s=", conf_path(s, path, sizeof(path)));
    switch (s->type) {
    case CONF_INTEGER:
        note("%lld", (long long)s->u.integer);
        break;
    case CONF_FLOAT:
        note("%g", s->u.number);
        break;
    case CONF_BOOLEAN:
        note(s->u.boolean ? "true" : "false");
        break;
    case CONF_STRING:
        note("'%s'", s->u.string);
        break;
    case CONF_EMPTY_GROUP:
        note("{}");
        break;
    case CONF_EMPTY_LIST:
        note("()");
        break;
    }
    note(" %s:%u\n", file, s->line);
}

static void forget(void)
{
    seen.len = 0;
    seen.text[0] = '\0';
}

/* Bytes that end where they end, so that a sanitizer sees a step too far. */
static bool read_bytes(const void *text, size_t len, struct conf_error *err)
{
    uint8_t *copy = test_exact(text, len);
    bool ok;

    forget();
    ok = conf_read_string("s", (const char *)copy, len, visit, &seen, err);
    free(copy);
    return ok;
}

static void gives(const char *text, const char *want)
{
    struct conf_error err = {0};

    if (!CHECK(read_bytes(text, strlen(text), &err)))
        fprintf(stderr, "    %s:%u: %s\n", err.file, err.line, err.reason);
    CHECK_STR(seen.text, want);
}

static void refuses(const char *text, unsigned line, const char *reason)
{
    struct conf_error err = {.line = 4711};

    CHECK(!read_bytes(text, strlen(text), &err));
    CHECK_STR(seen.text, "");
    CHECK_STR(err.file, "s");
    CHECK_EQ(err.line, line);
    CHECK_STR(err.reason, reason);
}

static void values(void)
{
    test_begin("nothing");
    gives("", "");
    gives("\n# only a comment", "");

    test_begin("integers");
    gives("a = 1; b = -2\nc : 2147483648, d = 5L;",
          "a=1 s:1\nb=-2 s:1\nc=2147483648 s:2\nd=5 s:2\n");
    gives("a = 9223372036854775807; b = -9223372036854775808;",
          "a=9223372036854775807 s:1\nb=-9223372036854775808 s:1\n");
    gives("a = 0x7fffffff; b = 0xffffffff; c = 0x7fffffffffffffffL;",
          "a=2147483647 s:1\nb=4294967295 s:1\nc=9223372036854775807 s:1\n");
    gives("a=0xffffffffL;b=[0X1F,31,0x1fLL]#0xf",
          "a=4294967295 s:1\nb[0]=31 s:1\nb[1]=31 s:1\nb[2]=31 s:1\n");
    gives("a = [ 1, 3000000000, 2L, 0xff ];",
          "a[0]=1 s:1\na[1]=3000000000 s:1\na[2]=2 s:1\na[3]=255 s:1\n");
    gives("a = ( 1, 2 ); b = 3LL; c1-2_3 = 4", "a[0]=1 s:1\na[1]=2 s:1\nb=3 s:1\nc1-2_3=4 s:1\n");

    test_begin("floats");
    gives("a = 1.5; b = -.25; c = 1e3; d = 0.10000000000000000000001; e = 99999999999999999999.0;",
          "a=1.5 s:1\nb=-0.25 s:1\nc=1000 s:1\nd=0.1 s:1\ne=1e+20 s:1\n");

    test_begin("booleans");
    gives("a = true; b = FALSE;", "a=true s:1\nb=false s:1\n");

    test_begin("strings");
    gives("a = \"x\"; b = \"\"; c = \"\\\"\\\\ \\x41\" \"B\";",
          "a='x' s:1\nb='' s:1\nc='\"\\ AB' s:1\n");
    gives("a = \"{[(# /* // @include 99999999999999999999\"; b = 1;",
          "a='{[(# /* // @include 99999999999999999999' s:1\nb=1 s:1\n");
    gives("a = \"1\n@include \\\"x\\\"\n3\";\nb = 1;", "a='1\n@include \"x\"\n3' s:1\nb=1 s:4\n");

    test_begin("comments");
    gives("# \"\n// {{\na = 1; /* \" \n@include \"x\"\n 99999999999999999999 */ b = 2; # x",
          "a=1 s:3\nb=2 s:5\n");
}

static void aggregates(void)
{
    test_begin("groups, lists and arrays are paths");
    gives("g : {\n a = 1;\n b : { c = 2; };\n};", "g.a=1 s:2\ng.b.c=2 s:3\n");
    gives("l = (\n { a = 1; },\n 2,\n ( 3, \"x\", true )\n);",
          "l[0].a=1 s:2\nl[1]=2 s:3\nl[2][0]=3 s:4\nl[2][1]='x' s:4\nl[2][2]=true s:4\n");
    gives("a = [ 1, 2 ];", "a[0]=1 s:1\na[1]=2 s:1\n");

    test_begin("those with nothing in them are values");
    gives("g = {}; l = (); a = []; n = ( {}, () );",
          "g={} s:1\nl=() s:1\na=() s:1\nn[0]={} s:1\nn[1]=() s:1\n");
}

#define SYNTAX(at)                                                                                 \
    "syntax error " at                                                                             \
    ", or before it: a setting is name = value; and a value is a number, true, "                   \
    "false, a text in \"quotes\", a list ( , ) or a group { }"

static void faults(void)
{
    test_begin("syntax");
    refuses("a = 1;\nb = = 2;", 2, SYNTAX("at \"b\""));
    refuses("a = 1;\n\na = 2;", 3, "duplicate setting name at \"a\"");
    refuses("a = [ 1,\n \"x\" ];", 2, "mismatched element type in array");
    refuses("a = \"x\" 1 \"y\";", 1, SYNTAX("at \"a\""));
    refuses("a = 1 \"y\";", 1, SYNTAX("at \"a\""));
    refuses("a = { b = 1;\n", 2, SYNTAX("here"));
    refuses("}", 1, SYNTAX("at \"}\""));

    test_begin("a syntax error shows no value");
    refuses("secret = hunter2;", 1, SYNTAX("at \"secret\""));
    refuses("secret =\n  hunter2;", 2, SYNTAX("here"));
    refuses("secret = \"a\n hunter2\" 5;", 2, SYNTAX("here"));
    refuses("realm = \"a\"\n\n port: 5;\nx y;", 4, SYNTAX("here"));
    refuses("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee = = 1;", 1, SYNTAX("here"));

    test_begin("what libconfig would not notice");
    refuses("a = 1;\nb = 9223372036854775808;", 2, "integer out of range");
    refuses("a = -9223372036854775809;", 1, "integer out of range");
    refuses("a = ( 1,\n+99999999999999999999L );", 2, "integer out of range");
    refuses("a = 0x10000000000000000;", 1, "integer out of range");
    refuses("a = 0x8000000000000000L;", 1, "integer out of range");
    refuses("a = 0x80000000000000000;", 1, "integer out of range");
    refuses("a = 0x1LLL;", 1, SYNTAX("at \"a\""));
    refuses("a = 1;\nb = 1e999;", 2, "number out of range");
    refuses("a = 1;\n\"x", 2, "string without end");
    refuses("a = \"x\\\"", 1, "string without end");
    refuses("a = 1;\n\n/* b = 2;", 3, "comment without end");
    refuses("a = \"x\\x00y\";", 1, "\\x00 in a string");

    test_begin("includes from a string");
    refuses("a = 1;\n @include \"x\"", 2, "@include is for files");

    test_begin("NUL bytes");
    struct conf_error err = {0};
    CHECK(!read_bytes("a = 1;\0b", 8, &err));
    CHECK_STR(err.reason, "holds a NUL byte");
}

static void limits(void)
{
    static char text[CONF_SIZE_MAX + 2];
    struct conf_error err = {0};
    char nested[256];

    test_begin("nesting");
    for (int depth = CONF_NESTING_MAX; depth <= CONF_NESTING_MAX + 1; depth++) {
        snprintf(nested, sizeof(nested), "a = %.*s%.*s;", depth,
                 "((((((((((((((((((((((((((((((((((((((((", depth,
                 "))))))))))))))))))))))))))))))))))))))))");
        CHECK_EQ(read_bytes(nested, strlen(nested), &err), depth == CONF_NESTING_MAX);
    }
    CHECK_STR(err.reason, "groups and lists nested too deeply");

    test_begin("size");
    memset(text, ' ', sizeof(text));
    memcpy(text, "a = 1;", 6);
    CHECK(read_bytes(text, CONF_SIZE_MAX, &err));
    CHECK_STR(seen.text, "a=1 s:1\n");
    CHECK(!read_bytes(text, CONF_SIZE_MAX + 1, &err));
    CHECK_STR(err.reason, "more than 1048576 bytes");
    CHECK_STR(seen.text, "");
}

/* --- files --- */

static const char *in_dir(const char *name)
{
    static char path[CONF_FILE_NAME_MAX];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "w");

    if (!f || fputs(text, f) < 0 || fclose(f) != 0) {
        perror(name);
        exit(EXIT_FAILURE);
    }
}

static void file_gives(const char *name, const char *want)
{
    struct conf_error err = {0};

    forget();
    if (!CHECK(conf_read_file(in_dir(name), visit, &seen, &err)))
        fprintf(stderr, "    %s:%u: %s\n", err.file, err.line, err.reason);
    CHECK_STR(seen.text, want);
}

static void file_refuses(const char *name, const char *file, unsigned line, const char *reason)
{
    struct conf_error err = {.line = 4711};

    forget();
    CHECK(!conf_read_file(in_dir(name), visit, &seen, &err));
    CHECK_STR(seen.text, "");
    CHECK_STR(err.file, in_dir(file));
    CHECK_EQ(err.line, line);
    CHECK_MEM(err.reason, reason, strlen(reason));
}

static void includes(void)
{
    test_begin("an include stands where its line stood");
    write_file("main.conf",
               "a = 1;\n\t@include \"sub/b.conf\" # here\nd : {\n@include \"sub/e.conf\"\n};\n"
               "f = 1;");
    mkdir(in_dir("sub"), 0700);
    write_file("sub/b.conf", "\nb = 1;\n@include \"c.conf\"\n\nb2 = 1; # no newline at the end");
    write_file("sub/c.conf", "c = 1;\n");
    write_file("sub/e.conf", "e = ( 1,\n2 );");
    file_gives("main.conf", "a=1 /main.conf:1\nb=1 /sub/b.conf:2\nc=1 /sub/c.conf:1\n"
                            "b2=1 /sub/b.conf:5\nd.e[0]=1 /sub/e.conf:1\nd.e[1]=2 /sub/e.conf:2\n"
                            "f=1 /main.conf:6\n");

    test_begin("a directory is its files, sorted");
    write_file("dir.conf", "@include \"sub\"\nz = 1;");
    unlink(in_dir("sub/e.conf"));
    write_file("sub/a.cfg", "a = 1;");
    write_file("sub/b.conf", "b = 1");
    write_file("sub/README", "{{{");
    write_file("sub/.hidden.conf", "{{{");
    write_file("sub/b.conf~", "{{{");
    file_gives("dir.conf", "a=1 /sub/a.cfg:1\nb=1 /sub/b.conf:1\nc=1 /sub/c.conf:1\n"
                           "z=1 /dir.conf:2\n");

    test_begin("faults within an include have its name and line");
    write_file("sub/b.conf", "b = 1;\n\nq : = 2");
    file_refuses("dir.conf", "sub/b.conf", 3, SYNTAX("at \"q\""));
    write_file("sub/b.conf", "\n\na = 2;");
    file_refuses("dir.conf", "sub/b.conf", 3, "duplicate setting name");
    write_file("sub/b.conf", "\n\"");
    file_refuses("dir.conf", "sub/b.conf", 2, "string without end");

    test_begin("files are limited together");
    static char blanks[CONF_SIZE_MAX / 2 + 1];
    memset(blanks, ' ', sizeof(blanks) - 1);
    write_file("sub/b.conf", blanks);
    write_file("sub/c.conf", blanks);
    file_refuses("dir.conf", "sub/c.conf", 0, "more than 1048576 bytes in all");

    test_begin("includes that cannot be");
    write_file("bad.conf", "a = 1;\n@include \"none.conf\"");
    file_refuses("bad.conf", "bad.conf", 2, "cannot include ");
    write_file("bad.conf", "a = 1;\n@include \"bad.conf\"");
    file_refuses("bad.conf", "bad.conf", 2, "includes nested too deeply");
    write_file("bad.conf", "a = 1;\n@include \"\"");
    file_refuses("bad.conf", "bad.conf", 2, "@include without a proper file name");
    write_file("bad.conf", "a = 1;\n@include \"bad\n\"");
    file_refuses("bad.conf", "bad.conf", 2, "@include without a proper file name");
    write_file("bad.conf", "a = 1;\n@include \"sub/fifo\"");
    CHECK_EQ(mkfifo(in_dir("sub/fifo"), 0600), 0);
    file_refuses("bad.conf", "sub/fifo", 0, "not a regular file");
    write_file("bad.conf", "a = 1;\nb = @include \"sub/a.cfg\"");
    file_refuses("bad.conf", "bad.conf", 2, SYNTAX("at \"b\""));
}

static void files(void)
{
    test_begin("files that cannot be read");
    file_refuses("none", "none", 0, "No such file or directory");
    file_refuses("sub", "sub", 0, "not a regular file");
    file_refuses("sub/fifo", "sub/fifo", 0, "not a regular file");
}

static void paths(void)
{
    static const struct conf_step steps[] = {{"listeners", 0}, {NULL, 12}, {"port", 0}};
    struct conf_setting s = {.path = steps, .depth = 3};
    char buf[32];

    test_begin("a path as text");
    CHECK_STR(conf_path(&s, buf, sizeof(buf)), "listeners[12].port");
    for (size_t cap = 1; cap < sizeof("listeners[12].port"); cap++)
        CHECK(strncmp(conf_path(&s, buf, cap), "listeners[12].port", cap - 1) == 0 &&
              strlen(buf) == cap - 1);
}

static void clean_up(void)
{
    static const char *const names[] = {
        "main.conf",  "dir.conf",         "bad.conf",   "sub/a.cfg", "sub/b.conf",
        "sub/c.conf", "sub/.hidden.conf", "sub/README", "sub/fifo",  "sub/b.conf~"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_dir(names[i]));
    rmdir(in_dir("sub"));
    CHECK_EQ(rmdir(dir), 0);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        perror(dir);
        return EXIT_FAILURE;
    }
    values();
    aggregates();
    faults();
    limits();
    includes();
    files();
    paths();
    clean_up();
    return test_end("conf");
}
