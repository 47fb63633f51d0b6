/* Lines for an operator: nobody waits until they are read. */
#include "log.h"

#include <fcntl.h>

#include "test.h"

static int ends[2], before;

/* What the log has said so far, as a string. */
static const char *said(void)
{
    static char text[65536 + 1];
    ssize_t n = read(ends[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void lines_nobody_reads_are_lost_and_stop_nobody(void)
{
    CHECK(pipe(ends) == 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    before = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    alarm(60); /* ends the test where a line waits */
    for (int i = 0; i < 5000; i++)
        log_error("a line of a hundred and some bytes, so that the pipe is full: %080d", i);
    for (int i = 0; i < 10; i++) /* all that lies there */
        said();
    log_info("read again");
    const char *text = said();
    log_info("and again");
    const char *lost = strstr(text, "lines before were lost");
    dup2(before, STDERR_FILENO);
    alarm(0);
    CHECK(strncmp(text, "info: (", 7) == 0 && lost && strstr(lost, "read again\n"));
    CHECK_STR(said(), "info: and again\n");
}

int main(void)
{
    test_begin("lines_nobody_reads_are_lost_and_stop_nobody");
    lines_nobody_reads_are_lost_and_stop_nobody();
    return test_end("log");
}
