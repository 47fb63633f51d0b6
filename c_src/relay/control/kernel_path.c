#include "kernel_path.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "rights.h"

enum { NAMES_MAX = OFFLOAD_INTERFACES };

struct names {
    char name[NAMES_MAX][IF_NAMESIZE];
    unsigned count;
};

/* -------------------------------------------------------------------------------- which interfaces
 */

static void add_name(struct names *n, const char *name, size_t len)
{
    if (len == 0 || len >= IF_NAMESIZE || n->count == NAMES_MAX)
        return;
    for (unsigned i = 0; i < n->count; i++)
        if (strlen(n->name[i]) == len && memcmp(n->name[i], name, len) == 0)
            return;
    memcpy(n->name[n->count], name, len);
    n->name[n->count++][len] = '\0';
}

static void read_names(struct names *n, const uint8_t *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        const uint8_t *space = memchr(text + at, ' ', len - at);
        size_t end = space ? (size_t)(space - text) : len;
        add_name(n, (const char *)text + at, end - at);
        at = end + 1;
    }
}

static bool is_ethernet(const char *name)
{
    struct ifreq r = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strncpy(r.ifr_name, name, IF_NAMESIZE - 1);
    bool yes =
        fd >= 0 && ioctl(fd, SIOCGIFHWADDR, &r) == 0 && r.ifr_hwaddr.sa_family == ARPHRD_ETHER;
    if (fd >= 0)
        close(fd);
    return yes;
}

/* Those that have an address, and frames of Ethernet: the program reads no other. */
static void find_names(struct names *n)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
        if ((family == AF_INET || family == AF_INET6) && a->ifa_flags & IFF_UP &&
            !(a->ifa_flags & IFF_LOOPBACK) && is_ethernet(a->ifa_name))
            add_name(n, a->ifa_name, strlen(a->ifa_name));
    }
    freeifaddrs(all);
}

/* --------------------------------------------------------------------------------------- attaching
 */

/* One interface more in the line that is told: how, or why not. */
static void say(char *text, size_t cap, const char *name, const char *how, const char *why)
{
    size_t len = strlen(text);
    const char *comma = len ? ", " : "";
    if (how)
        snprintf(text + len, cap - len, "%s%s by %s", comma, name, how);
    else
        snprintf(text + len, cap - len, "%snot %s (%s)", comma, name, why);
}

/* How many interfaces took it; what became of each goes to the line. */
static unsigned attach_all(struct offload *o, const struct names *n, char *told, size_t cap)
{
    unsigned taken = 0;
    char why[OFFLOAD_WHY_MAX];
    for (unsigned i = 0; i < n->count; i++) {
        unsigned interface = if_nametoindex(n->name[i]);
        const char *how = NULL;
        snprintf(why, sizeof(why), "%s", interface ? "not Ethernet" : "there is none");
        if (interface && is_ethernet(n->name[i]))
            how = offload_attach(o, interface, why);
        say(told, cap, n->name[i], how, why);
        taken += how != NULL;
    }
    return taken;
}

void kernel_path_open(struct control *c, const struct ctl_config *m)
{
    struct kernel_path *k = &c->kernel_path;
    struct names names = {0};
    k->told[0] = '\0';
    k->wanted = (enum offload_way)m->offload;
    if (k->wanted == OFFLOAD_OFF)
        return;
    read_names(&names, m->interfaces.data, m->interfaces.len);
    if (names.count == 0)
        find_names(&names);
    k->offload = offload_open(offload_chosen(k->wanted), k->told);
    if (!k->offload)
        return;
    if (attach_all(k->offload, &names, k->told, sizeof(k->told)) > 0) {
        rights_drop();
        return;
    }
    if (!k->told[0])
        snprintf(k->told, sizeof(k->told), "no interface has Ethernet and an address");
    offload_close(k->offload);
    k->offload = NULL;
}

void kernel_path_tell(struct control *c)
{
    const struct kernel_path *k = &c->kernel_path;
    struct ctl_frame f = {
        .code = CTL_OFFLOAD,
        .u.offload = {.offload = (uint8_t)(k->offload ? offload_is_by(k->offload) : OFFLOAD_OFF),
                      .detail = ctl_bytes_of(k->told, strlen(k->told))}};
    if (k->wanted != OFFLOAD_OFF)
        pipe_send(&c->pipe, &f);
}

void kernel_path_close(struct control *c)
{
    offload_close(c->kernel_path.offload);
    c->kernel_path.offload = NULL;
}

/* ----------------------------------------------------------------------------------------- telling
 */

/* None of the texts has a character that JSON writes otherwise: names of interfaces are sifted. */
static void print_text(FILE *out, const char *text)
{
    for (; *text; text++)
        if (*text >= ' ' && *text <= '~' && *text != '"' && *text != '\\')
            fputc(*text, out);
}

static void print_one(FILE *out, const char *name)
{
    char why[OFFLOAD_WHY_MAX];
    struct offload *o = offload_open(offload_chosen(OFFLOAD_AUTO), why);
    const char *how = o ? offload_attach(o, if_nametoindex(name), why) : NULL;
    fputs("{\"interface\":\"", out);
    print_text(out, name);
    if (how)
        fprintf(out, "\",\"offload\":\"%s\"}\n", how);
    else
        fprintf(out, "\",\"offload\":null,\"reason\":\"%s\"}\n", why);
    offload_close(o);
}

void kernel_path_print(FILE *out)
{
    struct names names = {0};
    find_names(&names);
    for (unsigned i = 0; i < names.count; i++)
        print_one(out, names.name[i]);
}
