#include "offload.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attach.h"
#include "libbpf.h"

/* The program as clang made it of path.bpf.c: make bytecode. */
static const unsigned char bytecode[] = {
#include "bytecode.inc"
};

struct offload {
    enum offload_way way;
    struct bpf_object *object;
    int program, places;
    struct offload_entry *entries;
    struct offload_governor *governors;
    uint8_t hops_v4, hops_v6;
    struct attached attached[OFFLOAD_INTERFACES];
    unsigned attached_count;
};

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
    (void)level;
    (void)format;
    (void)args;
    return 0;
}

static const char *who_refuses(int err)
{
    switch (err) {
    case EPERM:
    case EACCES:
        return "the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed";
    case ENOSYS:
        return "the kernel is built without BPF, or a seccomp profile forbids it";
    case EINVAL:
        return "the kernel is too old for the program";
    default:
        return strerror(err);
    }
}

static void explain(int err, char why[OFFLOAD_WHY_MAX])
{
    const char *name = strerrorname_np(err);
    snprintf(why, OFFLOAD_WHY_MAX, "%s: %s", name ? name : "?", who_refuses(err));
}

static void *share(const struct bpf_object *object, const char *map, size_t size)
{
    int fd = libbpf.bpf_object__find_map_fd_by_name(object, map);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* As a new socket has it: what the system is set to. */
static uint8_t default_hops(int domain, int level, int option)
{
    int value = 0, fd = socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(value);
    if (fd < 0 || getsockopt(fd, level, option, &value, &len) != 0 || value <= 0 || value > 255)
        value = IPDEFTTL;
    if (fd >= 0)
        close(fd);
    return (uint8_t)value;
}

/* Only the program that is wanted: the other one may be more than this kernel can. */
static int load(struct offload *o)
{
    LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "meerkat");
    o->object = libbpf.bpf_object__open_mem(bytecode, sizeof(bytecode), &opts);
    if (!o->object)
        return -errno;
    const char *wanted = o->way == OFFLOAD_XDP ? "meerkat_xdp" : "meerkat_tc";
    struct bpf_program *p = NULL;
    while ((p = libbpf.bpf_object__next_program(o->object, p)))
        libbpf.bpf_program__set_autoload(p, strcmp(libbpf.bpf_program__name(p), wanted) == 0);
    int ret = libbpf.bpf_object__load(o->object);
    if (ret)
        return ret;
    o->program = libbpf.bpf_program__fd(libbpf.bpf_object__find_program_by_name(o->object, wanted));
    o->places = libbpf.bpf_object__find_map_fd_by_name(o->object, "places");
    o->entries = share(o->object, "entries", OFFLOAD_ENTRIES * sizeof(*o->entries));
    o->governors = share(o->object, "governors", OFFLOAD_WORKERS * sizeof(*o->governors));
    return o->entries && o->governors ? 0 : -errno;
}

struct offload *offload_open(enum offload_way way, char why[OFFLOAD_WHY_MAX])
{
    struct offload *o = calloc(1, sizeof(*o));
    why[0] = '\0';
    if (!o)
        return NULL;
    if (!libbpf_find()) {
        snprintf(why, OFFLOAD_WHY_MAX, "there is no libbpf.so.1 (Debian: libbpf1)");
        free(o);
        return NULL;
    }
    libbpf.libbpf_set_print(silent);
    o->way = way;
    o->hops_v4 = default_hops(AF_INET, IPPROTO_IP, IP_TTL);
    o->hops_v6 = default_hops(AF_INET6, IPPROTO_IPV6, IPV6_UNICAST_HOPS);
    int ret = load(o);
    if (ret == 0)
        return o;
    explain(-ret, why);
    offload_close(o);
    return NULL;
}

const char *offload_attach(struct offload *o, unsigned interface, char why[OFFLOAD_WHY_MAX])
{
    if (o->attached_count == OFFLOAD_INTERFACES) {
        snprintf(why, OFFLOAD_WHY_MAX, "there are too many interfaces");
        return NULL;
    }
    struct attached *a = &o->attached[o->attached_count];
    int ret = attach(a, o->program, interface, o->way == OFFLOAD_XDP);
    if (ret == 0) {
        o->attached_count++;
        return attached_how(a);
    }
    if (ret == -EBUSY || ret == -EEXIST)
        snprintf(why, OFFLOAD_WHY_MAX, "another program has XDP there");
    else
        explain(-ret, why);
    return NULL;
}

void offload_close(struct offload *o)
{
    if (!o)
        return;
    while (o->attached_count > 0)
        detach(&o->attached[--o->attached_count]);
    if (o->entries)
        munmap(o->entries, OFFLOAD_ENTRIES * sizeof(*o->entries));
    if (o->governors)
        munmap(o->governors, OFFLOAD_WORKERS * sizeof(*o->governors));
    libbpf.bpf_object__close(o->object);
    free(o);
}

enum offload_way offload_is_by(const struct offload *o)
{
    return o->way;
}

uint8_t offload_hops(const struct offload *o, uint8_t family)
{
    return family == 4 ? o->hops_v4 : o->hops_v6;
}

struct offload_entry *offload_entry(struct offload *o, uint32_t index)
{
    return &o->entries[index];
}

struct offload_governor *offload_governor(struct offload *o, unsigned worker)
{
    return &o->governors[worker];
}

int offload_lead(struct offload *o, const struct offload_key *key, uint32_t index, uint64_t number)
{
    const struct offload_place place = {.number = number, .index = index};
    return libbpf.bpf_map_update_elem(o->places, key, &place, BPF_ANY);
}

int offload_unlead(struct offload *o, const struct offload_key *key)
{
    return libbpf.bpf_map_delete_elem(o->places, key);
}

int offload_try(struct offload *o, uint8_t *frame, uint32_t *len, uint32_t cap, uint32_t *verdict)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = *len, .data_out = frame,
                .data_size_out = cap);
    int ret = libbpf.bpf_prog_test_run_opts(o->program, &opts);
    *len = opts.data_size_out;
    *verdict = opts.retval;
    return ret;
}
