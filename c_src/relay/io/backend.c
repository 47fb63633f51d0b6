#include "backend.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "epoll.h"
#include "io_dgram.h"
#include "uring.h"

/* --------------------------------------------------------------------------------------- trying */

static void on_trouble(void *ctx, enum io_trouble what, int err)
{
    (void)what;
    *(int *)ctx = -err;
}

static void on_packet(void *ctx, struct io_socket *s, struct io_packet *p)
{
    (void)ctx;
    (void)s;
    (void)p;
}

static void on_closed(void *ctx, struct io_socket *s)
{
    (void)ctx;
    (void)s;
}

/* A receive that the kernel does not know ends at once. */
static int try_receiving(struct io *io, const int *result)
{
    static const struct io_handler handler = {.on_packet = on_packet, .on_closed = on_closed};
    struct io_socket s = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                          .handler = &handler};
    if (s.fd < 0)
        return -errno;
    int ret = io_add(io, &s);
    if (ret) {
        close(s.fd);
        return ret;
    }
    io_wait(io, 0);
    io_dispatch(io);
    ret = *result;
    io_stop(io);
    return ret;
}

static int try_uring(void)
{
    int result = 0;
    const struct io_events events = {&result, on_trouble, NULL};
    struct io *io;
    int ret = uring_create(&io, &events, 1);
    if (ret)
        return ret;
    ret = try_receiving(io, &result);
    io_destroy(io);
    return ret;
}

/* ---------------------------------------------------------------------------------- who refuses */

/* kernel.io_uring_disabled (Linux 6.6): 0 to all allowed, 1 to a group, 2 to nobody. -1 without. */
static int io_uring_disabled(void)
{
    FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = -1;
    if (f && fscanf(f, "%d", &value) != 1)
        value = -1;
    if (f)
        fclose(f);
    return value;
}

static const char *who_forbids(void)
{
    switch (io_uring_disabled()) {
    case 1:
        return "kernel.io_uring_disabled is 1 and this user not in kernel.io_uring_group";
    case 2:
        return "kernel.io_uring_disabled is 2";
    default:
        return "a seccomp profile, as Docker's default one, or a security module";
    }
}

void backend_explain(int err, char why[BACKEND_WHY_MAX])
{
    const char *name = strerrorname_np(err);
    const char *reason = strerror(err);
    switch (err) {
    case EPERM:
    case EACCES:
        reason = who_forbids();
        break;
    case ENOSYS:
        reason = "the kernel is built without it, or a seccomp profile";
        break;
    case EINVAL:
        reason = "the kernel is older than Linux 6.0";
        break;
    case ENOMEM:
        reason = "the limit of locked memory (ulimit -l, LimitMEMLOCK)";
        break;
    }
    snprintf(why, BACKEND_WHY_MAX, "%s: %s", name ? name : "?", reason);
}

/* ------------------------------------------------------------------------------------- choosing */

int backend_probe_uring(char why[BACKEND_WHY_MAX])
{
    int ret = try_uring();
    why[0] = '\0';
    if (ret)
        backend_explain(-ret, why);
    return ret;
}

int backend_choose(enum backend wanted, enum backend *chosen, char why[BACKEND_WHY_MAX])
{
    why[0] = '\0';
    *chosen = BACKEND_EPOLL;
    if (wanted == BACKEND_EPOLL)
        return 0;
    int ret = backend_probe_uring(why);
    if (ret == 0)
        *chosen = BACKEND_IO_URING;
    return wanted == BACKEND_AUTO ? 0 : ret;
}

int backend_create(enum backend b, struct io **out, const struct io_events *events,
                   uint32_t sockets_max)
{
    return b == BACKEND_EPOLL ? epoll_create_io(out, events, sockets_max)
                              : uring_create(out, events, sockets_max);
}

/* -------------------------------------------------------------------------------------- telling */

static bool takes(int option)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), value = 0;
    bool ok = fd >= 0 && setsockopt(fd, IPPROTO_UDP, option, &value, sizeof(value)) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static const char *json_bool(bool b)
{
    return b ? "true" : "false";
}

/* None of the texts has a character that JSON writes otherwise, but for a kernel's odd name. */
static void print_text(FILE *out, const char *text)
{
    for (; *text; text++)
        if (*text >= ' ' && *text <= '~' && *text != '"' && *text != '\\')
            fputc(*text, out);
}

void backend_print(FILE *out)
{
    char why[BACKEND_WHY_MAX];
    struct utsname name = {0};
    int ret = backend_probe_uring(why);
    uname(&name);
    fprintf(out, "{\"io_backend\":\"%s\",\"io_uring\":{\"available\":%s,\"errno\":%d,\"reason\":\"",
            ret ? "epoll" : "io_uring", json_bool(ret == 0), -ret);
    print_text(out, why);
    fprintf(out, "\"},\"udp_gso\":%s,\"udp_gro\":%s,\"kernel\":\"", json_bool(takes(UDP_SEGMENT)),
            json_bool(takes(UDP_GRO)));
    print_text(out, name.release);
    fputs("\"}\n", out);
}
