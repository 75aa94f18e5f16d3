/* A library for LD_PRELOAD that stops a process at its n-th change of a file, as a crash or a power failure would.

   In: environment variables.
     FAULT_FOLDERS  absolute folders, joined by ':'; only calls on files below them count
     FAULT_AT       the call before which the process ends by SIGKILL; 0: it never ends
     FAULT_MODE     "kill": what was written stays. "power": writes that were not synced are lost, each by a coin.
                    "full": the process does not end, and from that call on every call that needs room fails (ENOSPC)
     FAULT_SEED     of the coins
     FAULT_LOG      a file that gets the number of calls so far, at each call

   Counted calls: open with O_TRUNC or O_CREAT, write, writev, pwrite, pwritev, ftruncate, fsync, fdatasync, rename,
   renameat, renameat2, unlink, unlinkat, copy_file_range, sendfile, and their 64-bit names. The library takes
   LD_PRELOAD out of the environment, so children run without it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* A write that is not synced: what the file held before it. */
struct change {
    struct change *next;
    dev_t device;
    ino_t inode;
    int descriptor; /* our own, so that the file can be changed back after the program has closed it */
    off_t offset, old_size;
    size_t old_count;
    char *old_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *changes; /* the newest first */
static long count, stop_at;
static int is_power, is_full;
static unsigned seed;
static char folders[8][PATH_MAX];
static int num_folders, log_descriptor = -1;
static __thread int is_inside;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAULT_FOLDERS");
    char *copy = strdup(text ? text : ""), *rest = NULL;
    for (char *one = strtok_r(copy, ":", &rest); one && num_folders < 8; one = strtok_r(NULL, ":", &rest))
        snprintf(folders[num_folders++], PATH_MAX, "%s", one);
    free(copy);
    stop_at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    is_power = getenv("FAULT_MODE") && !strcmp(getenv("FAULT_MODE"), "power");
    is_full = getenv("FAULT_MODE") && !strcmp(getenv("FAULT_MODE"), "full");
    seed = getenv("FAULT_SEED") ? (unsigned)atol(getenv("FAULT_SEED")) : 1;
    if (getenv("FAULT_LOG")) log_descriptor = REAL(open64)(getenv("FAULT_LOG"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    unsetenv("LD_PRELOAD");
}

static int is_below(const char *path) {
    for (int i = 0; i < num_folders; i++) {
        size_t length = strlen(folders[i]);
        if (!strncmp(path, folders[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static int is_watched(int descriptor) {
    char link[64], path[PATH_MAX];
    struct stat status;
    if (fstat(descriptor, &status) || !S_ISREG(status.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Whether the file or the folder at `path` is watched. A relative path is below the current folder or `folder`. */
static int is_watched_path(int folder, const char *path) {
    char whole[PATH_MAX * 2], base[PATH_MAX], link[64];
    if (path[0] == '/') return is_below(path);
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return is_below(whole);
}

/* The power fails: every write that was not synced is taken back or stays, by a coin. */
static void lose_writes(void) {
    for (struct change *one = changes; one; one = one->next) {
        if (rand_r(&seed) % 2) continue;
        if (REAL(pwrite64)(one->descriptor, one->old_bytes, one->old_count, one->offset) < 0) continue;
        struct stat status;
        if (!fstat(one->descriptor, &status) && status.st_size > one->old_size && !one->next)
            if (REAL(ftruncate64)(one->descriptor, one->old_size)) continue;
    }
}

/* Count a call on a watched file; the process ends before the call that it was told. */
static void step(void) {
    count++;
    if (log_descriptor >= 0) {
        char text[32];
        int length = snprintf(text, sizeof text, "%ld\n", count);
        if (REAL(pwrite64)(log_descriptor, text, length, 0) < 0) return;
    }
    if (stop_at && count == stop_at && !is_full) {
        if (is_power) lose_writes();
        raise(SIGKILL);
    }
}

/* Remember what a write will replace. */
static void remember(int descriptor, off_t offset, size_t length) {
    struct stat status;
    if (!is_power || fstat(descriptor, &status)) return;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    int own = REAL(open64)(link, O_RDWR | O_CLOEXEC);
    if (own < 0) return;
    if (offset < 0) offset = status.st_size;
    struct change *one = calloc(1, sizeof *one);
    one->device = status.st_dev, one->inode = status.st_ino, one->descriptor = own;
    one->offset = offset, one->old_size = status.st_size;
    one->old_count = offset < status.st_size ? (size_t)(status.st_size - offset) : 0;
    if (one->old_count > length) one->old_count = length;
    one->old_bytes = calloc(1, length ? length : 1); /* what was not in the file reads as zeros after the failure */
    ssize_t was_read = pread(own, one->old_bytes, one->old_count, offset);
    one->old_count = was_read < 0 ? 0 : length;
    one->next = changes, changes = one;
}

/* A sync makes the writes of its file safe. */
static void forget(int descriptor) {
    struct stat status;
    if (!is_power || fstat(descriptor, &status)) return;
    for (struct change **place = &changes; *place;) {
        struct change *one = *place;
        if (one->device == status.st_dev && one->inode == status.st_ino) {
            *place = one->next;
            close(one->descriptor);
            free(one->old_bytes);
            free(one);
        } else {
            place = &one->next;
        }
    }
}

static int enter(int is_counted) {
    if (is_inside || !is_counted) return 0;
    is_inside = 1;
    pthread_mutex_lock(&lock);
    return 1;
}

static void leave(int is_entered) {
    if (!is_entered) return;
    pthread_mutex_unlock(&lock);
    is_inside = 0;
}

#define COUNTED(condition, before, call, after)                                                                        \
    int is_entered = enter(condition);                                                                                 \
    if (is_entered) { step(); before; }                                                                                \
    int is_refused = is_entered && needs_room && is_full && stop_at && count >= stop_at;                               \
    __typeof__(call) result = is_refused ? -1 : call;                                                                  \
    int saved = is_refused ? ENOSPC : errno;                                                                           \
    if (is_entered) { after; }                                                                                         \
    leave(is_entered);                                                                                                 \
    errno = saved;                                                                                                     \
    return result

static off_t position(int descriptor) {
    return fcntl(descriptor, F_GETFL) & O_APPEND ? -1 : lseek(descriptor, 0, SEEK_CUR);
}

static size_t total(const struct iovec *parts, int num_parts) {
    size_t sum = 0;
    for (int i = 0; i < num_parts; i++) sum += parts[i].iov_len;
    return sum;
}

#define NOTHING (void)0
#define NEEDS_ROOM const int needs_room = 1;
#define NEEDS_NONE const int needs_room = 0;
#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }
#define CHANGES_FILE(folder, path) ((flags & (O_TRUNC | O_CREAT)) && is_watched_path(folder, path))

int open(const char *path, int flags, ...) {
    MODE NEEDS_ROOM COUNTED(CHANGES_FILE(AT_FDCWD, path), NOTHING, REAL(open)(path, flags, mode), NOTHING);
}
int open64(const char *path, int flags, ...) {
    MODE NEEDS_ROOM COUNTED(CHANGES_FILE(AT_FDCWD, path), NOTHING, REAL(open64)(path, flags, mode), NOTHING);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE NEEDS_ROOM COUNTED(CHANGES_FILE(folder, path), NOTHING, REAL(openat)(folder, path, flags, mode), NOTHING);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE NEEDS_ROOM COUNTED(CHANGES_FILE(folder, path), NOTHING, REAL(openat64)(folder, path, flags, mode), NOTHING);
}
ssize_t write(int fd, const void *data, size_t size) {
    NEEDS_ROOM COUNTED(is_watched(fd), remember(fd, position(fd), size), REAL(write)(fd, data, size), NOTHING);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    NEEDS_ROOM COUNTED(is_watched(fd), remember(fd, position(fd), total(parts, n)), REAL(writev)(fd, parts, n), NOTHING);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    NEEDS_ROOM COUNTED(is_watched(fd), remember(fd, at, size), REAL(pwrite)(fd, data, size, at), NOTHING);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEEDS_ROOM COUNTED(is_watched(fd), remember(fd, at, size), REAL(pwrite64)(fd, data, size, at), NOTHING);
}
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) {
    NEEDS_ROOM COUNTED(is_watched(fd), remember(fd, at, total(parts, n)), REAL(pwritev)(fd, parts, n, at), NOTHING);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t at) {
    NEEDS_ROOM COUNTED(is_watched(fd), remember(fd, at, total(parts, n)), REAL(pwritev64)(fd, parts, n, at), NOTHING);
}
int ftruncate(int fd, off_t size) { NEEDS_NONE COUNTED(is_watched(fd), NOTHING, REAL(ftruncate)(fd, size), NOTHING); }
int ftruncate64(int fd, off64_t size) { NEEDS_NONE COUNTED(is_watched(fd), NOTHING, REAL(ftruncate64)(fd, size), NOTHING); }
int fsync(int fd) { NEEDS_NONE COUNTED(is_watched(fd), NOTHING, REAL(fsync)(fd), forget(fd)); }
int fdatasync(int fd) { NEEDS_NONE COUNTED(is_watched(fd), NOTHING, REAL(fdatasync)(fd), forget(fd)); }
int rename(const char *from, const char *to) {
    NEEDS_NONE COUNTED(is_watched_path(AT_FDCWD, to), NOTHING, REAL(rename)(from, to), NOTHING);
}
int renameat(int a, const char *from, int b, const char *to) {
    NEEDS_NONE COUNTED(is_watched_path(b, to), NOTHING, REAL(renameat)(a, from, b, to), NOTHING);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    NEEDS_NONE COUNTED(is_watched_path(b, to), NOTHING, REAL(renameat2)(a, from, b, to, flags), NOTHING);
}
int unlink(const char *path) {
    NEEDS_NONE COUNTED(is_watched_path(AT_FDCWD, path), NOTHING, REAL(unlink)(path), NOTHING);
}
int unlinkat(int folder, const char *path, int flags) {
    NEEDS_NONE COUNTED(is_watched_path(folder, path), NOTHING, REAL(unlinkat)(folder, path, flags), NOTHING);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
    NEEDS_ROOM COUNTED(is_watched(to), remember(to, b ? *b : position(to), size), REAL(copy_file_range)(from, a, to, b, size, flags),
            NOTHING);
}
ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    NEEDS_ROOM COUNTED(is_watched(to), remember(to, position(to), size), REAL(sendfile)(to, from, at, size), NOTHING);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    NEEDS_ROOM COUNTED(is_watched(to), remember(to, position(to), size), REAL(sendfile64)(to, from, at, size), NOTHING);
}
