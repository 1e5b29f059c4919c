"""A server whose wall clock can be set while it runs: a small library, preloaded, that shifts the real time."""

import os
import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift; /* seconds, in a file that the test writes */

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("WALL_CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) shift = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (into) *into = precise.tv_sec;
    return precise.tv_sec;
}
"""


class WallClock:
    """The wall clock of processes that are started with its environment; monotonic clocks go on, as where a real clock
    is set. Needs a C compiler: see `available`.

    Attributes:
        offset: how far it is set from the real time.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._file = folder / "wall_clock.so", folder / "shift"
        self._file.write_bytes(struct.pack("=q", 0))
        self.offset = timedelta(0)
        source = folder / "wall_clock.c"
        source.write_text(SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", self._library, source], check=True)

    @staticmethod
    def available() -> bool:
        """Whether there is a compiler."""
        return shutil.which("cc") is not None

    def set(self, offset: timedelta) -> None:
        """Sets the clock; running processes have it at once."""
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(descriptor, struct.pack("=q", int(offset.total_seconds())), 0)
        finally:
            os.close(descriptor)
        self.offset = offset

    @property
    def environment(self) -> dict[str, str]:
        """For processes that are to live by this clock."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_SHIFT": str(self._file)}
