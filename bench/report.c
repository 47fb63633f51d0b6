/*
 * The table and the CSV file.
 */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void report_put(struct report *r, const char *name, const char *format, ...)
{
    if (r->count == REPORT_MAX)
        return;
    r->row[r->count].name = name;
    va_list args;
    va_start(args, format);
    vsnprintf(r->row[r->count++].value, REPORT_TEXT, format, args);
    va_end(args);
}

void report_figure(struct report *r, const char *name, bool known, int decimals, double value)
{
    if (known)
        report_put(r, name, "%.*f", decimals, value);
    else
        report_put(r, name, "%s", "");
}

void report_table(const struct report *r)
{
    int width = 0;
    for (unsigned i = 0; i < r->count; i++)
        width = MAX(width, (int)strlen(r->row[i].name));
    for (unsigned i = 0; i < r->count; i++)
        if (r->row[i].value[0])
            printf("%-*s  %s\n", width, r->row[i].name, r->row[i].value);
    fflush(stdout);
}

/* RFC 4180: what has a comma, a quote or a line's end is quoted. */
static void put_cell(FILE *f, const char *text, const char *after)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fprintf(f, "%s%s", text, after);
        return;
    }
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', f);
        fputc(*text, f);
    }
    fprintf(f, "\"%s", after);
}

static void put_header(const struct report *r, char *line, size_t size)
{
    size_t len = 0;
    line[0] = '\0';
    for (unsigned i = 0; i < r->count && len < size; i++)
        len += (size_t)snprintf(line + len, size - len, "%s%s", r->row[i].name,
                                i + 1 < r->count ? "," : "\n");
}

int report_csv(const struct report *r, const char *file)
{
    char header[4096], found[4096] = "";
    put_header(r, header, sizeof(header));
    FILE *f = fopen(file, "a+");
    if (!f)
        goto failed;
    rewind(f);
    bool empty = !fgets(found, sizeof(found), f);
    if (!empty && strcmp(found, header) != 0) {
        fclose(f);
        fprintf(stderr, "meerkat_bench: %s has other columns; nothing was added to it\n", file);
        return -1;
    }
    fseek(f, 0, SEEK_END);
    if (empty)
        fputs(header, f);
    for (unsigned i = 0; i < r->count; i++)
        put_cell(f, r->row[i].value, i + 1 < r->count ? "," : "\n");
    bool bad = ferror(f);
    if (fclose(f) == 0 && !bad)
        return 0;
failed:
    fprintf(stderr, "meerkat_bench: %s: %s\n", file, strerror(errno));
    return -1;
}
