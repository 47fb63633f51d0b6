/*
 * What a relay program takes from whoever connects to it: descriptors, of which there may be others
 * and more than it expects.
 */
#include "tether.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

enum { FDS_MAX = 8 };

static int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* As a greeting of nobody, with so many descriptors. */
static void send_descriptors(int fd, int n)
{
    char greeting[16] = "who is there";
    struct iovec iov = {greeting, sizeof(greeting)};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } a = {0};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = n ? a.room : NULL,
                       .msg_controllen = n ? CMSG_SPACE((size_t)n * sizeof(int)) : 0};
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    for (int i = 0; i < n; i++)
        memcpy(CMSG_DATA(head) + (size_t)i * sizeof(int), &fd, sizeof(fd));
    if (n) {
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
    }
    CHECK_EQ(sendmsg(fd, &m, 0), (ssize_t)sizeof(greeting));
}

static void any_number_of_descriptors_is_taken_and_closed(void)
{
    int ends[2], fds[TETHER_FDS];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    int before = open_descriptors();
    for (int n = 0; n <= FDS_MAX; n++) {
        send_descriptors(ends[0], n);
        CHECK_EQ(tether_take(ends[1], fds), -EPROTO);
        CHECK_EQ(open_descriptors(), before);
    }
    CHECK_EQ(tether_take(ends[1], fds), -EAGAIN);
    close(ends[0]);
    CHECK_EQ(tether_take(ends[1], fds), -EPROTO);
    close(ends[1]);
}

static void who_is_of_our_user_is_trusted(void)
{
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK(tether_is_trusted(ends[0]));
    close(ends[0]);
    CHECK(!tether_is_trusted(ends[0]));
    close(ends[1]);
}

#define RUN(f) (test_begin(#f), f())

int main(void)
{
    RUN(any_number_of_descriptors_is_taken_and_closed);
    RUN(who_is_of_our_user_is_trusted);
    return test_end("tether");
}
