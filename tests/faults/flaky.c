/* Loaded before the C library: one read in FLAKY_ONE_IN of the files below FLAKY_FOLDER fails with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_ulong calls;

static int fails(int fd) {
  const char *folder = getenv("FLAKY_FOLDER"), *one_in = getenv("FLAKY_ONE_IN"), *log = getenv("FLAKY_LOG");
  if (!folder || !one_in || !log) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) != 0) return 0;
  /* A number that is well mixed of (seed, process, call): splitmix64. */
  const char *seed = getenv("FLAKY_SEED");
  unsigned long x = atomic_fetch_add(&calls, 1) + ((unsigned long)getpid() << 32) + (seed ? strtoul(seed, 0, 10) : 0);
  x = (x + 0x9E3779B97F4A7C15UL) * 0xBF58476D1CE4E5B9UL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBUL;
  int failed = (x ^ (x >> 31)) % strtoul(one_in, 0, 10) == 0;
  int file = open(log, O_WRONLY | O_APPEND | O_CREAT, 0644);
  if (file >= 0) {
    if (write(file, failed ? "x" : ".", 1) < 0) failed = failed; /* only a count is lost */
    close(file);
  }
  if (failed) errno = EIO;
  return failed;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *buffer, size_t count) { return fails(fd) ? -1 : syscall(SYS_read, fd, buffer, count); }
ssize_t pread(int fd, void *buffer, size_t count, off_t at) { return fails(fd) ? -1 : REAL(pread)(fd, buffer, count, at); }
ssize_t pread64(int fd, void *buffer, size_t count, off64_t at) { return fails(fd) ? -1 : REAL(pread64)(fd, buffer, count, at); }
ssize_t readv(int fd, const struct iovec *parts, int count) { return fails(fd) ? -1 : REAL(readv)(fd, parts, count); }
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at) { return fails(fd) ? -1 : REAL(preadv)(fd, parts, count, at); }
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) { return fails(fd) ? -1 : REAL(preadv64)(fd, parts, count, at); }
