#include "rights.h"

#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { PERFMON = 38, BPF = 39 }; /* linux/capability.h has them since 5.8 */

static bool asks_for_entries(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return true;
    return major < 5 || (major == 5 && minor < 19);
}

void rights_drop(void)
{
    static const unsigned rights[] = {PERFMON, BPF};
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (asks_for_entries() || syscall(SYS_capget, &head, sets) != 0)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
        uint32_t bit = 1u << (rights[i] % 32);
        struct __user_cap_data_struct *s = &sets[rights[i] / 32];
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, rights[i], 0, 0);
        s->effective &= ~bit;
        s->permitted &= ~bit;
        s->inheritable &= ~bit;
    }
    syscall(SYS_capset, &head, sets);
}
