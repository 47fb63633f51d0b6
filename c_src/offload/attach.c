#include "attach.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <net/if.h>
#include <unistd.h>

#include "libbpf.h"

enum {
    TCX_INGRESS = 46, /* of enum bpf_attach_type; the headers of Debian 12 are older */
    CLSACT_PRIORITY = 0x4d4b,
    CLSACT_HANDLES = 16,
};

/* -------------------------------------------------------------------------------------------- XDP
 */

/* What XDP sends out of one end of a veth pair is lost without a word unless the other end polls
 * (NAPI), which cannot be seen from here: there it is the kernel's own XDP, which sends as
 * everybody does. An interface of the machine has a device. */
static bool has_device(unsigned interface)
{
    char name[IF_NAMESIZE], path[64 + IF_NAMESIZE];
    struct stat st;
    if (!if_indextoname(interface, name))
        return false;
    snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
    return stat(path, &st) == 0;
}

static int by_xdp(struct attached *a, int program, unsigned interface)
{
    LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);
    int fd = -EOPNOTSUPP;
    a->by = BY_XDP;
    if (has_device(interface))
        fd = libbpf.bpf_link_create(program, (int)interface, BPF_XDP, &opts);
    if (fd < 0 && fd != -EBUSY) {
        opts.flags = XDP_FLAGS_SKB_MODE;
        a->by = BY_XDP_GENERIC;
        fd = libbpf.bpf_link_create(program, (int)interface, BPF_XDP, &opts);
    }
    return a->fd = fd;
}

/* --------------------------------------------------------------------------------------------- TC
 */

/* Two servers on one host have a handle each. Whose process has died the kernel says by this: the
 * name is free again then, and what is attached under the handle is of nobody. Names of this kind
 * belong to a network namespace, as interfaces do. */
static int take_handle(unsigned interface, uint32_t handle)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "meerkat-offload-%u-%u",
                       interface, handle);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    if (bind(fd, (struct sockaddr *)&name, size) == 0)
        return fd;
    int ret = -errno;
    close(fd);
    return ret;
}

static int by_clsact(struct attached *a, int program, unsigned interface)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface, .attach_point = BPF_TC_INGRESS);
    int ret = libbpf.bpf_tc_hook_create(&hook);
    if (ret && ret != -EEXIST)
        return ret;
    a->by = BY_CLSACT;
    a->fd = -EADDRINUSE;
    for (a->handle = 1; a->handle <= CLSACT_HANDLES && a->fd == -EADDRINUSE; a->handle++)
        a->fd = take_handle(interface, a->handle);
    if (a->fd < 0)
        return a->fd;
    a->handle--;
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = a->handle, .priority = CLSACT_PRIORITY,
                .prog_fd = program, .flags = BPF_TC_F_REPLACE);
    ret = libbpf.bpf_tc_attach(&hook, &opts);
    if (ret)
        close(a->fd);
    return ret;
}

static int by_tc(struct attached *a, int program, unsigned interface)
{
    a->by = BY_TCX;
    a->fd =
        libbpf.bpf_link_create(program, (int)interface, (enum bpf_attach_type)TCX_INGRESS, NULL);
    return a->fd == -EINVAL ? by_clsact(a, program, interface) : a->fd;
}

/* ------------------------------------------------------------------------------------------- both
 */

int attach(struct attached *a, int program, unsigned interface, bool xdp)
{
    *a = (struct attached){.interface = interface};
    int ret = xdp ? by_xdp(a, program, interface) : by_tc(a, program, interface);
    return MIN(ret, 0);
}

const char *attached_how(const struct attached *a)
{
    static const char *const names[] = {[BY_XDP] = "XDP",
                                        [BY_XDP_GENERIC] = "generic XDP",
                                        [BY_TCX] = "tcx",
                                        [BY_CLSACT] = "clsact"};
    return names[a->by];
}

void detach(struct attached *a)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)a->interface, .attach_point = BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = a->handle, .priority = CLSACT_PRIORITY);
    if (a->by == BY_CLSACT)
        libbpf.bpf_tc_detach(&hook, &opts);
    close(a->fd);
}
