#include "parcel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum { MAGIC = 0x4d4b5041, BATCH = 250, PATIENCE_S = 3, DESCRIPTORS_MAX = 1 << 20 };

/* The first message, which brings the file. */
struct head {
    uint32_t magic, fds;
};

union ancillary {
    struct cmsghdr head;
    char room[CMSG_SPACE(BATCH * sizeof(int))];
};

static void be_patient(int fd)
{
    const struct timeval t = {.tv_sec = PATIENCE_S};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
}

/* ------------------------------------------------------------------------------------- sending */

static bool send_fds(int fd, const void *data, size_t len, const int fds[], size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    union ancillary a = {0};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = a.room,
                       .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(head), fds, n * sizeof(int));
    ssize_t sent;
    do
        sent = sendmsg(fd, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)len;
}

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* Descriptors wait until there are enough for a message. */
struct batch {
    int fds[BATCH];
    uint32_t n;
};

static bool flush_batch(int fd, struct batch *b)
{
    bool sent = b->n == 0 || send_fds(fd, &b->n, sizeof(b->n), b->fds, b->n);
    b->n = 0;
    return sent;
}

static bool send_batches(int fd, const struct parcel_piece pieces[], size_t n)
{
    struct batch b = {.n = 0};
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < pieces[i].fd_count; k++) {
            b.fds[b.n++] = pieces[i].fds[k];
            if (b.n == BATCH && !flush_batch(fd, &b))
                return false;
        }
    }
    return flush_batch(fd, &b);
}

bool parcel_send(int fd, const struct parcel_piece pieces[], size_t n)
{
    struct head head = {.magic = MAGIC};
    int file = memfd_create("meerkat_parcel", MFD_CLOEXEC);
    bool sent = file >= 0;
    be_patient(fd);
    for (size_t i = 0; sent && i < n; i++) {
        sent = write_all(file, pieces[i].bytes, pieces[i].len);
        head.fds += (uint32_t)pieces[i].fd_count;
    }
    sent = sent && send_fds(fd, &head, sizeof(head), &file, 1) && send_batches(fd, pieces, n);
    if (file >= 0)
        close(file);
    return sent;
}

/* ----------------------------------------------------------------------------------- receiving */

static void close_all(const int fds[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* One message of that length, and its descriptors: how many, -1 when it is none. */
static int receive_fds(int fd, void *data, size_t len, int fds[BATCH])
{
    struct iovec iov = {data, len};
    union ancillary a;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = a.room, .msg_controllen = sizeof(a.room)};
    ssize_t got;
    do
        got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    const struct cmsghdr *head = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    size_t n = 0;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        n = MIN(n, (size_t)BATCH);
        memcpy(fds, CMSG_DATA(head), n * sizeof(int));
    }
    if (got == (ssize_t)len && !(m.msg_flags & MSG_CTRUNC))
        return (int)n;
    close_all(fds, n);
    return -1;
}

static bool map_file(int file, struct parcel *p)
{
    struct stat st;
    if (fstat(file, &st) != 0 || st.st_size <= 0)
        return false;
    void *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (base == MAP_FAILED)
        return false;
    p->bytes = base;
    p->len = (size_t)st.st_size;
    return true;
}

static bool receive_batches(int fd, uint32_t wanted, struct parcel *p)
{
    while (p->fd_count < wanted) {
        uint32_t said;
        int fds[BATCH];
        int n = receive_fds(fd, &said, sizeof(said), fds);
        if (n < 0)
            return false;
        if (n == 0 || (uint32_t)n != said || (uint32_t)n > wanted - p->fd_count) {
            close_all(fds, (size_t)n);
            return false;
        }
        memcpy(p->fds + p->fd_count, fds, (size_t)n * sizeof(int));
        p->fd_count += (uint32_t)n;
    }
    return true;
}

bool parcel_receive(int fd, struct parcel *out)
{
    struct head head;
    int file[BATCH];
    *out = (struct parcel){0};
    be_patient(fd);
    int n = receive_fds(fd, &head, sizeof(head), file);
    bool good =
        n == 1 && head.magic == MAGIC && head.fds <= DESCRIPTORS_MAX && map_file(file[0], out);
    close_all(file, n > 0 ? (size_t)n : 0);
    if (good)
        out->fds = malloc(MAX(head.fds, 1u) * sizeof(int));
    if (good && out->fds && receive_batches(fd, head.fds, out))
        return true;
    parcel_end(out);
    return false;
}

void parcel_end(struct parcel *p)
{
    if (p->bytes)
        munmap(p->bytes, p->len);
    if (p->fds)
        close_all(p->fds, p->fd_count);
    free(p->fds);
    *p = (struct parcel){0};
}
