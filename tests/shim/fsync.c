/* fsync and fdatasync that fail, for tests/tests/disk_faults/fsync.rs; loaded by LD_PRELOAD.
 *
 * FSYNC_SHIM_UNDER    only files whose path begins so are concerned
 * FSYNC_SHIM_TRIGGER  while this file exists, a sync of a file whose path contains its content
 *                     fails with EIO
 * FSYNC_SHIM_PERSIST  if "1", what was written is on the disk though the sync failed
 * FSYNC_SHIM_LOST     takes a line "bytes path" for each file at its first failure: how much of it
 *                     was synced before, which is what is left of it after the power is cut
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 8192

struct synced {
    dev_t dev;
    ino_t ino;
    off_t bytes;
    int failed;
};

static struct synced files[FILES_MAX];
static int count;
static time_t begun;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) { begun = time(NULL); }

static struct synced *find(const struct stat *st) {
    for (int at = 0; at < count; at++) {
        if (files[at].dev == st->st_dev && files[at].ino == st->st_ino) {
            return &files[at];
        }
    }
    if (count == FILES_MAX) {
        abort();
    }
    /* What was written before this process began was synced by an earlier one. */
    off_t before = st->st_mtim.tv_sec < begun ? st->st_size : 0;
    files[count] = (struct synced){st->st_dev, st->st_ino, before, 0};
    return &files[count++];
}

static int concerned(int fd, char *path, size_t size) {
    const char *under = getenv("FSYNC_SHIM_UNDER");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (under == NULL || length <= 0) {
        return 0;
    }
    path[length] = 0;
    return strncmp(path, under, strlen(under)) == 0;
}

static int fails(const char *path) {
    const char *trigger = getenv("FSYNC_SHIM_TRIGGER");
    char part[256];
    if (trigger == NULL) {
        return 0;
    }
    int fd = open(trigger, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t length = read(fd, part, sizeof part - 1);
    close(fd);
    if (length < 0) {
        return 0;
    }
    part[length] = 0;
    return strstr(path, part) != NULL;
}

static void tell(const char *path, const struct stat *st, struct synced *file) {
    const char *lost = getenv("FSYNC_SHIM_LOST");
    if (lost == NULL || file->failed || !S_ISREG(st->st_mode)) {
        return;
    }
    FILE *out = fopen(lost, "a");
    if (out != NULL) {
        fprintf(out, "%lld %s\n", (long long)file->bytes, path);
        fclose(out);
    }
    file->failed = 1;
}

static int sync_with(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    char path[4096];
    struct stat st;
    if (fstat(fd, &st) != 0 || !concerned(fd, path, sizeof path)) {
        return real(fd);
    }
    int failing = fails(path);
    const char *persist = getenv("FSYNC_SHIM_PERSIST");
    if (failing && persist != NULL && strcmp(persist, "1") == 0) {
        real(fd);
    }
    int result = failing ? -1 : real(fd);
    pthread_mutex_lock(&lock);
    struct synced *file = find(&st);
    if (failing) {
        tell(path, &st, file);
    } else if (result == 0 && !file->failed && st.st_size > file->bytes) {
        file->bytes = st.st_size;
    }
    pthread_mutex_unlock(&lock);
    if (failing) {
        errno = EIO;
    }
    return result;
}

int fsync(int fd) { return sync_with("fsync", fd); }

int fdatasync(int fd) { return sync_with("fdatasync", fd); }
