"""A disk of a few megabytes, for tests that fill it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes. Skips the test where this user may not mount one."""
    with mount_small_disk(folder, size) as mounted:
        if not mounted:
            pytest.skip("mounting a small disk needs root")
        yield folder


@contextmanager
def mount_small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A tmpfs of so many bytes, or the folder as it is where this user may not mount one; says which."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def set_writable(folder: Path, writable: bool) -> None:
    """Lets a mounted disk be written, or not; nobody may have a file of it open for writing then."""
    mode = "rw" if writable else "ro"
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)
