"""A disk that fails as it is told to: a library before the C library, for servers that are started with it."""

import shutil
import subprocess
from pathlib import Path

import pytest

# Some calls fail, as the file $BAD_DISK says in three words: kinds of calls, the error number, and a part of the path
# of the files that they are on (its end, with a $ behind it). Kinds are s(ync), w(rite), r(ead) and c(hange: open to
# write, rename, make, delete).
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The file is read by bare system calls: the functions below must not call themselves. */
static int told(char kind, const char *path) {
    char text[512], kinds[16], part[256];
    int number = 0;
    const char *control = getenv("BAD_DISK");
    int file = control ? syscall(SYS_openat, AT_FDCWD, control, O_RDONLY) : -1;
    if (file < 0) return 0;
    long size = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    if (size <= 0) return 0;
    text[size] = 0;
    if (sscanf(text, "%15s %d %255s", kinds, &number, part) != 3) return 0;
    if (!strchr(kinds, kind)) return 0;
    size_t end = strlen(part) - 1, whole = strlen(path);
    if (part[end] != '$') return strstr(path, part) ? number : 0;
    return whole >= end && !strncmp(path + whole - end, part, end) ? number : 0;
}

static int of_descriptor(char kind, int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return told(kind, path);
}

#define REAL(NAME) ((__typeof__(&NAME))dlsym(RTLD_NEXT, #NAME))
#define REFUSE(NUMBER) do { int number = (NUMBER); if (number) { errno = number; return -1; } } while (0)

int fsync(int fd) { REFUSE(of_descriptor('s', fd)); return REAL(fsync)(fd); }
int fdatasync(int fd) { REFUSE(of_descriptor('s', fd)); return REAL(fdatasync)(fd); }
ssize_t write(int fd, const void *data, size_t n) { REFUSE(of_descriptor('w', fd)); return REAL(write)(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    REFUSE(of_descriptor('w', fd)); return REAL(pwrite)(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    REFUSE(of_descriptor('w', fd)); return REAL(pwrite64)(fd, data, n, at); }
ssize_t read(int fd, void *data, size_t n) { REFUSE(of_descriptor('r', fd)); return REAL(read)(fd, data, n); }
ssize_t pread(int fd, void *data, size_t n, off_t at) {
    REFUSE(of_descriptor('r', fd)); return REAL(pread)(fd, data, n, at); }
ssize_t pread64(int fd, void *data, size_t n, off64_t at) {
    REFUSE(of_descriptor('r', fd)); return REAL(pread64)(fd, data, n, at); }
int ftruncate(int fd, off_t size) { REFUSE(of_descriptor('c', fd)); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { REFUSE(of_descriptor('c', fd)); return REAL(ftruncate64)(fd, size); }
int rename(const char *old, const char *new) { REFUSE(told('c', new)); return REAL(rename)(old, new); }
int unlink(const char *path) { REFUSE(told('c', path)); return REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { REFUSE(told('c', path)); return REAL(mkdir)(path, mode); }

#define OPEN(NAME) int NAME(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
    if (flags & (O_WRONLY | O_RDWR | O_CREAT)) REFUSE(told('c', path)); \
    return REAL(NAME)(path, flags, mode); }
OPEN(open)
OPEN(open64)
"""


class BadDisk:
    """Calls on some files fail, for processes that are started from now on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("a C compiler (cc) is needed to make the disk fail")
        source, library = folder / "shim.c", folder / "shim.so"
        source.write_text(SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source, "-ldl"], check=True)
        self._control = folder / "failing"
        monkeypatch.setenv("BAD_DISK", str(self._control))
        monkeypatch.setenv("LD_PRELOAD", str(library))

    def fail(self, kinds: str, number: int, path_part: str) -> None:
        """Lets calls of these kinds (s, w, r, c; see the library) fail with an errno, on files with this in their
        paths."""
        # In one write: the server reads it at any moment.
        staged = self._control.with_suffix(".new")
        staged.write_text(f"{kinds} {number} {path_part}\n")
        staged.rename(self._control)

    def work(self) -> None:
        """Lets all work again."""
        self._control.unlink()
