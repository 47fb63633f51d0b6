/*
 * meerkat_relay: moves packets for the Erlang node that started it, and ends with it.
 *
 *   meerkat_relay                  serves on fds 3 and 4 (a port program: nouse_stdio, {packet,4})
 *   meerkat_relay --survive SOCKET the same, and goes on for a while when the node dies (tether.h)
 *   meerkat_relay --dump-protocol  prints the words it speaks there
 *   meerkat_relay --probe          prints what this host lets it use (backend.h: backend_print)
 *   meerkat_relay --offload        prints what each interface could do for it (kernel_path.h)
 *   meerkat_relay --clock          prints whether somebody keeps the kernel's clock
 *
 * It takes no configuration of its own: everything comes by command.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timex.h>

#include "backend.h"
#include "control.h"
#include "ctl.h"
#include "kernel_path.h"
#include "tether.h"

/* Each relayed address is a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

/* One line of JSON: {"synchronized":true}, or false, or null where the kernel may not be asked. */
static void print_clock(FILE *out)
{
    struct timex t = {0}; /* no modes: it is only read */
    int state = adjtimex(&t);
    bool kept = state != TIME_ERROR && !(t.status & STA_UNSYNC);
    fprintf(out, "{\"synchronized\":%s}\n", state < 0 ? "null" : kept ? "true" : "false");
}

/*
 * The end of the node is read from the pipe, by a program that reads. One that hangs would live on
 * and keep the ports from the next. What started us is erl_child_setup, which has one thread and
 * ends with the node: the kernel goes by the thread that forked, so it must not be one of many.
 */
static void die_with_the_node(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--dump-protocol") == 0) {
        ctl_dump(stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--probe") == 0) {
        backend_print(stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--offload") == 0) {
        kernel_path_print(stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--clock") == 0) {
        print_clock(stdout);
        return 0;
    }
    struct tether_start start = {.socket = -1, .lock = -1, .from = -1};
    bool survive = argc == 3 && strcmp(argv[1], "--survive") == 0;
    start.replaces = argc == 3 && strcmp(argv[1], "--replace") == 0;
    start.path = survive || start.replaces ? argv[2] : NULL;
    if (argc != 1 && !start.path) {
        fprintf(stderr,
                "usage: %s [--survive SOCKET | --replace SOCKET | --dump-protocol | --probe | "
                "--offload | --clock]\n",
                argv[0]);
        return 64;
    }
    /* Ctrl-C in a terminal reaches both programs. Erlang acts on it, and closes the pipe in the
     * end. */
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    die_with_the_node();
    raise_descriptor_limit();
    int ended = start.path ? tether_run(&start, CONTROL_IN, CONTROL_OUT) : -1;
    return ended >= 0 ? ended : control_run(CONTROL_IN, CONTROL_OUT, &start);
}
