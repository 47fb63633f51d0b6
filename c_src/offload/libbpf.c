#include "libbpf.h"

#include <dlfcn.h>

struct libbpf libbpf;

bool libbpf_find(void)
{
    static void *library;
    if (!library)
        library = dlopen("libbpf.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
#define CALL(name)                                                                                 \
    libbpf.name = (__typeof__(&name))dlsym(library, #name);                                        \
    if (!libbpf.name)                                                                              \
        return false;
    LIBBPF_CALLS(CALL)
#undef CALL
    return true;
}
