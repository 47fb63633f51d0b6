/*
 * libbpf, looked for when it is first needed: a server that does not use the kernel's own path
 * needs no such library, and one that wants to and has none hears so.
 */
#ifndef MEERKAT_LIBBPF_H
#define MEERKAT_LIBBPF_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>

/* All of it that is called here. */
#define LIBBPF_CALLS(CALL)                                                                         \
    CALL(libbpf_set_print)                                                                         \
    CALL(bpf_object__open_mem)                                                                     \
    CALL(bpf_object__next_program)                                                                 \
    CALL(bpf_object__find_program_by_name)                                                         \
    CALL(bpf_object__find_map_fd_by_name)                                                          \
    CALL(bpf_object__load)                                                                         \
    CALL(bpf_object__close)                                                                        \
    CALL(bpf_program__name)                                                                        \
    CALL(bpf_program__set_autoload)                                                                \
    CALL(bpf_program__fd)                                                                          \
    CALL(bpf_prog_test_run_opts)                                                                   \
    CALL(bpf_map_update_elem)                                                                      \
    CALL(bpf_map_delete_elem)                                                                      \
    CALL(bpf_link_create)                                                                          \
    CALL(bpf_tc_hook_create)                                                                       \
    CALL(bpf_tc_attach)                                                                            \
    CALL(bpf_tc_detach)

struct libbpf {
#define CALL(name) __typeof__(&name) name;
    LIBBPF_CALLS(CALL)
#undef CALL
};

/* Good once libbpf_find() was true. */
extern struct libbpf libbpf;

/* False where there is none, or one that lacks something. By the thread that opens, before others
 * start. */
bool libbpf_find(void);

#endif
